"""Alembic migrations of the automation database."""
