"""How the team's own people are reached."""
