"""The device's caretaker: fetches, verifies, tests, switches, watches, and steps back. It runs no model itself."""
