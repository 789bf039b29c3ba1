"""Set-oriented SQL: many instances of one parameterised read become one statement, where that is provably the same."""
