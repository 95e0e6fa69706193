"""What every test relies on."""

from hypothesis import settings

# No deadline per example: machines differ by more than any that would still mean something.
settings.register_profile("trioworker", deadline=None, print_blob=True)
settings.load_profile("trioworker")
