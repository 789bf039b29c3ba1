"""A catalogue of films: who made them, what they are called elsewhere, how they are rated, where they are rented.

What is paid is in whole cents, and the tables that are added up are strict: such sums are exact in whatever order.
"""

from workloads.text2sql.sample_databases.words import FIRST_NAMES, LAST_NAMES, Draw, Tables

SCHEMA = """
CREATE TABLE film (
  film_id INTEGER PRIMARY KEY, title TEXT NOT NULL, genre TEXT NOT NULL, release_year INTEGER NOT NULL,
  country TEXT NOT NULL, length_minutes INTEGER NOT NULL
) STRICT;
CREATE TABLE rating (
  film_id INTEGER PRIMARY KEY REFERENCES film (film_id), average REAL NOT NULL, votes INTEGER NOT NULL
);
CREATE TABLE person (person_id INTEGER PRIMARY KEY, name TEXT NOT NULL, birth_year INTEGER NOT NULL);
CREATE TABLE credit (
  film_id INTEGER NOT NULL REFERENCES film (film_id), person_id INTEGER NOT NULL REFERENCES person (person_id),
  job TEXT NOT NULL, PRIMARY KEY (film_id, person_id)
);
CREATE TABLE foreign_title (
  film_id INTEGER NOT NULL REFERENCES film (film_id), country TEXT NOT NULL, title TEXT NOT NULL,
  PRIMARY KEY (film_id, country)
);
CREATE TABLE store (store_id INTEGER PRIMARY KEY, city TEXT NOT NULL);
CREATE TABLE rental (
  rental_id INTEGER PRIMARY KEY, film_id INTEGER NOT NULL REFERENCES film (film_id),
  store_id INTEGER NOT NULL REFERENCES store (store_id), rented_on TEXT NOT NULL, days INTEGER NOT NULL,
  paid INTEGER NOT NULL
) STRICT;
CREATE INDEX film_by_genre ON film (genre, release_year);
CREATE INDEX credit_by_person ON credit (person_id);
CREATE INDEX rental_by_film ON rental (film_id);
"""

GENRES = ("Comedy", "Drama", "Thriller", "Documentary", "Animation", "Western", "Romance", "Mystery")
COUNTRIES = ("Brazil", "Canada", "France", "India", "Japan", "Mexico", "Norway", "Poland", "Senegal", "South Korea")
YEARS = tuple(range(1960, 2024))
CITIES = ("Larkfield", "Port Vesper", "Millbrook", "Stonehaven", "Eastmere", "Graywater")
ADJECTIVES = """
    Silent Golden Broken Distant Paper Winter Hidden Crimson Last Electric Borrowed Gentle Hollow Iron Lost Midnight
    Narrow Open Patient Quiet Restless Second Twelfth Unwritten Velvet
""".split()  # noqa: SIM905 - a paragraph of words is easier to read and to mend than a list of strings
NOUNS = """
    River Mirror Orchard Signal Harbour Letters Kingdom Parade Summer Bridge Island Garden Train Lantern Map Violin
    Horizon Tower Window Season Market Forest Desert Station Promise
""".split()  # noqa: SIM905


def rows(draw: Draw, scale: int) -> Tables:
    """About 6,000 rows for each unit of `scale`."""
    films, people, rentals = 500 * scale, 300 * scale, 2000 * scale
    tables: Tables = {
        "film": [
            (n, _title(draw), draw.one(GENRES), draw.one(YEARS), draw.likely(COUNTRIES), draw.between(71, 190))
            for n in range(1, films + 1)
        ],
        "person": [(n, _person_name(draw), draw.between(1915, 2001)) for n in range(1, people + 1)],
        "store": [(n, city) for n, city in enumerate(CITIES, 1)],
    }
    tables["rating"] = [(n, draw.between(20, 98) / 10, draw.between(5, 90_000)) for n in range(1, films + 1)]
    tables["credit"] = [
        (film, person, "director" if place == 0 else "actor")
        for film in range(1, films + 1)
        for place, person in enumerate(_crew(draw, people))
    ]
    tables["foreign_title"] = [
        (film, country, _title(draw)) for film in range(1, films + 1) for country in draw.some(COUNTRIES, 2)
    ]
    tables["rental"] = [
        (n, draw.likely(range(1, films + 1)), draw.between(1, len(CITIES)), *_rental(draw))
        for n in range(1, rentals + 1)
    ]
    return tables


def _title(draw: Draw) -> str:
    return f"{draw.one(ADJECTIVES)} {draw.one(NOUNS)}"


def _person_name(draw: Draw) -> str:
    return f"{draw.one(FIRST_NAMES)} {draw.one(LAST_NAMES)}"


def _crew(draw: Draw, people: int) -> list[int]:
    """A director, then actors; all different."""
    return list(dict.fromkeys(draw.likely(range(1, people + 1)) for _ in range(draw.between(3, 6))))


def _rental(draw: Draw) -> tuple[str, int, int]:
    days = draw.between(1, 9)
    return draw.day("2023-01-01", "2024-06-30"), days, round(100 * days * draw.money(1.5, 4.5))
