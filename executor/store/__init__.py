"""The SQL database is the truth: jobs, programs, node outputs, results, events."""
