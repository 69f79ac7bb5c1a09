"""How processes and machines talk to each other. Importing it brings nothing else in."""
