"""What the matcher reads and writes, by what it is about. Every statement works on a batch.

Each statement names the account, so that nothing of one reaches another's pool.
"""
