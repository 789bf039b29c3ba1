"""The SQLite functions a query may call. What is not named is refused, by the guard and again by SQLite's authorizer.

Left out on purpose: what reads files or loads code, what makes large values out of nothing (`printf`, `zeroblob`), and
what gives another answer each time (`random`), because equal queries are run once.
"""

NAMES = """
    avg count group_concat max min string_agg sum total
    row_number rank dense_rank percent_rank cume_dist ntile lag lead first_value last_value nth_value
    char concat concat_ws glob hex instr length like lower ltrim octet_length replace rtrim substr substring trim
    unicode upper
    abs acos acosh asin asinh atan atan2 atanh ceil ceiling cos cosh degrees exp floor ln log log10 log2 mod pi pow
    power radians round sign sin sinh sqrt tan tanh trunc
    date time datetime julianday unixepoch strftime timediff
    cast coalesce ifnull iif nullif typeof likely unlikely likelihood
    json_array_length json_extract json_type json_valid
"""

ALLOWED_FUNCTIONS = frozenset(NAMES.split())

#: Operators and constants that SQLite carries out by calling a function of this name.
OPERATOR_FUNCTIONS = frozenset(["->", "->>", "current_date", "current_time", "current_timestamp"])
