"""What holds for all tests: none fails on a clock."""

from hypothesis import settings

settings.register_profile("edgeward", deadline=None)
settings.load_profile("edgeward")
