"""The commands of `relevo`, one module a subject; each has `register(app)` and is listed in relevo.stack.cli."""
