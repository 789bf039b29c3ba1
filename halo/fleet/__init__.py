"""`halo fleet`: where workloads and engines of fleet questions come from, and how answers are told."""
