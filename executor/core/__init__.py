"""The scheduler core: events in, commands out. It reads no clock, opens nothing and logs nothing."""
