"""Where the calls of a job run, and in which order, on a fleet of unlike engines."""
