"""Where a model's time goes on this machine, where each of its operators ran, and how far that is from the limit."""
