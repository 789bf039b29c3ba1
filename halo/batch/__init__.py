"""A workflow over a file of rows: read, run, written down; resumable after any crash."""
