"""All SQL of ingest, by subject.

Statements take arrays and sort by key. A transaction locks in this order: quarantine, ledger, senders.
"""
