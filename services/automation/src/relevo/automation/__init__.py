"""Rules: triggers, conditions, actions."""
