"""Alembic migrations of the automation database, and its doors through the wall between accounts."""

from relevo.chassis import webhooks

DOORS = webhooks.DOORS
