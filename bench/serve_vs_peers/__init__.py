"""What issue and documentation promise of serving, beside peers and by hand. README.md says how to run it."""
