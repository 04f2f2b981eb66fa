"""Every event, command, subject and stream: the only thing the services know of each other."""
