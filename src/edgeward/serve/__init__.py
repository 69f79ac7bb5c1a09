"""The inference process: answers requests with verified bundles."""
