"""Databases that workflows read, of our own design: schemas after well-known ones, rows drawn from a seed, any size."""
