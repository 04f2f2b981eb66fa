"""All SQL of the presence service; every statement works on a whole batch."""
