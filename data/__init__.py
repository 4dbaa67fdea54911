"""Data sets: formats on disk → records → batches."""
