"""Rows for the workflows in `workloads.programs`: seeded, with a chosen share of duplicates."""
