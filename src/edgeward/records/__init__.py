"""The nouns: what flows between rooms and machines. Imported by file; depends on msgspec alone."""
