"""Model + target + budget → report: every candidate is run and measured, one is chosen, and the reason is given."""
