"""Workflows that come with Halo, each in one file; README.md beside this one is the table of them."""
