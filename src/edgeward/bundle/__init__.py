"""The thing we ship: assembled, signed, verified."""
