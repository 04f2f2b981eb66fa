"""All SQL of identity: one module for each part of what it owns."""
