"""Agent status now, and its whole history."""
