"""How we work: fail, store, retry, write files, load plugins. Knows no model and no device."""
