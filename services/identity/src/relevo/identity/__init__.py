"""Accounts, agents, teams, roles, tokens and credentials."""
