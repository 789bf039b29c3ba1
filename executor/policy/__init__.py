"""Policies: small functions of a snapshot."""
