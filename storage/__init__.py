"""Storage: all that a run writes and reads, atomically."""
