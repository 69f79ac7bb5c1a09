"""`python -m edgeward` is `edgeward`."""

from edgeward.cli.main import process

process()
