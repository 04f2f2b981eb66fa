"""The SDK for channel adapters."""
