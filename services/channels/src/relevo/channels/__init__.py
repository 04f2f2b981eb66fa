"""The adapters that ship with Relevo."""
