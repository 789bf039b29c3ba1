"""Drivers perform what the core commands: `live` against real engines, `simulated` in virtual time."""
