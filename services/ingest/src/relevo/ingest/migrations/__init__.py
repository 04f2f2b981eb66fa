"""The schema of ingest's database, as Alembic revisions."""
