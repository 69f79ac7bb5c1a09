"""What holds for all tests: none fails on a clock."""

import signal

from hypothesis import settings

settings.register_profile("edgeward", deadline=None)
settings.load_profile("edgeward")

# Whoever starts the tests in the background has them ignore Ctrl-C, and so would every process that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
