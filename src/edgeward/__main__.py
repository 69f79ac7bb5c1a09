"""`python -m edgeward` is `edgeward`."""

from edgeward.cli.main import main

main()
