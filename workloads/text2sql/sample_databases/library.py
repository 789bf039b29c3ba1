"""A public library with branches."""

from workloads.text2sql.sample_databases.words import Draw, Tables, days_after

SCHEMA = """
CREATE TABLE author (
  author_id INTEGER PRIMARY KEY, name TEXT NOT NULL, country TEXT NOT NULL, birth_year INTEGER NOT NULL
);
CREATE TABLE book (
  book_id INTEGER PRIMARY KEY, title TEXT NOT NULL, author_id INTEGER NOT NULL REFERENCES author (author_id),
  genre TEXT NOT NULL, published_year INTEGER NOT NULL, pages INTEGER NOT NULL
);
CREATE TABLE branch (
  branch_id INTEGER PRIMARY KEY, name TEXT NOT NULL, city TEXT NOT NULL, opened_year INTEGER NOT NULL
);
CREATE TABLE book_copy (
  copy_id INTEGER PRIMARY KEY, book_id INTEGER NOT NULL REFERENCES book (book_id),
  branch_id INTEGER NOT NULL REFERENCES branch (branch_id), state TEXT NOT NULL
);
CREATE TABLE reader (
  reader_id INTEGER PRIMARY KEY, name TEXT NOT NULL, birth_year INTEGER NOT NULL,
  home_branch_id INTEGER NOT NULL REFERENCES branch (branch_id)
);
CREATE TABLE loan (
  loan_id INTEGER PRIMARY KEY, copy_id INTEGER NOT NULL REFERENCES book_copy (copy_id),
  reader_id INTEGER NOT NULL REFERENCES reader (reader_id), lent_on TEXT NOT NULL, due_on TEXT NOT NULL,
  returned_on TEXT
);
CREATE TABLE fine (
  fine_id INTEGER PRIMARY KEY, loan_id INTEGER NOT NULL REFERENCES loan (loan_id), amount REAL NOT NULL,
  is_paid INTEGER NOT NULL
);
"""

COUNTRIES = ("Argentina", "Egypt", "Finland", "Ghana", "Korea", "Mexico", "Scotland")
GENRES = ("Novel", "Mystery", "History", "Science", "Poetry", "Travel")
TITLE_STARTS = ("The Salt", "A House of", "Notes on", "The Glass", "Under the", "Beyond", "The Last", "Maps of")
TITLE_ENDS = ("Lighthouse", "Winter", "Stone", "Sparrow", "Mountain", "Tide", "Garden", "Clocks", "Silence", "Fire")
BRANCHES = (
    ("Central", "Aldermoor", 1932),
    ("Harbour", "Aldermoor", 1987),
    ("Westside", "Fenwick", 1964),
    ("Mill Lane", "Fenwick", 2011),
)
STATES = ("good", "new", "worn", "damaged")


def rows(draw: Draw) -> Tables:
    titles = draw.some([f"{start} {end}" for start in TITLE_STARTS for end in TITLE_ENDS], 64)
    tables: Tables = {
        "author": [
            (n, name, draw.likely(COUNTRIES), draw.between(1921, 1991)) for n, name in enumerate(draw.people(28), 1)
        ],
        "book": [
            (n, title, draw.likely(range(1, 27)), draw.likely(GENRES), draw.between(1958, 2023), draw.between(88, 720))
            for n, title in enumerate(titles, 1)
        ],
        "branch": [(n, *branch) for n, branch in enumerate(BRANCHES, 1)],
        "book_copy": [(n, draw.between(1, 62), draw.likely(range(1, 5)), draw.likely(STATES)) for n in range(1, 161)],
        "reader": [
            (n, name, draw.between(1944, 2014), draw.between(1, 4)) for n, name in enumerate(draw.people(60), 1)
        ],
    }
    loans = [(n, *_loan(draw)) for n in range(1, 361)]
    tables["loan"] = [*loans]
    late = [loan for loan in loans if loan[5] is None or loan[5] > loan[4]]
    tables["fine"] = [
        (n, late_loan[0], draw.money(0.5, 14), int(draw.chance(0.6))) for n, late_loan in enumerate(late, 1)
    ]
    return tables


def _loan(draw: Draw) -> tuple[int, int, str, str, str | None]:
    lent_on = draw.day("2024-01-02", "2024-10-31")
    returned_on = None if draw.chance(0.1) else days_after(lent_on, draw.between(3, 34))
    return draw.between(1, 152), draw.likely(range(1, 56)), lent_on, days_after(lent_on, 28), returned_on
