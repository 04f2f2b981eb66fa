"""What every test of the repository has: real servers, and how far Hypothesis searches."""

from hypothesis import settings

pytest_plugins = ["relevo.stack.testing"]

# `make test` runs Hypothesis' own profile `ci`; `make test-deep` this one.
settings.register_profile("deep", max_examples=1000, deadline=None, print_blob=True)
