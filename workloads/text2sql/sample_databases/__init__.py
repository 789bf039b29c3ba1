"""Six small databases of our own design. Each module has `SCHEMA` (SQL) and `rows(draw)`: the rows of each table."""
