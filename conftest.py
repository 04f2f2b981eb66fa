pytest_plugins = ["relevo.stack.testing"]
