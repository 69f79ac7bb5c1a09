"""Edgeward's optimiser beside the other tools, on whole cases, in interleaved runs. README.md says how to run it."""
