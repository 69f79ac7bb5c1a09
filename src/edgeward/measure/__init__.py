"""What a model costs on a machine, how good its answers are, and what the machine can do."""
