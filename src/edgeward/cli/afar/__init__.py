"""Delivers to a device over the user's own ssh; nothing need be there but Python 3.11 and a way to become root."""
