"""Questions of a fleet before it is bought or changed: the cheapest mix, the knee, one more engine, energy, signals."""
