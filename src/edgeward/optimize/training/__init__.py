"""Makes a model smaller by training: pruned channels, students. The only place of this project that knows torch."""
