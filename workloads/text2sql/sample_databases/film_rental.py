"""A film rental shop."""

from workloads.text2sql.sample_databases.words import Draw, Tables, days_after

SCHEMA = """
CREATE TABLE studio (studio_id INTEGER PRIMARY KEY, name TEXT NOT NULL, country TEXT NOT NULL);
CREATE TABLE film (
  film_id INTEGER PRIMARY KEY, title TEXT NOT NULL, genre TEXT NOT NULL, release_year INTEGER NOT NULL,
  length_minutes INTEGER NOT NULL, daily_rate REAL NOT NULL, studio_id INTEGER NOT NULL REFERENCES studio (studio_id)
);
CREATE TABLE actor (actor_id INTEGER PRIMARY KEY, name TEXT NOT NULL, birth_year INTEGER NOT NULL);
CREATE TABLE film_actor (
  film_id INTEGER NOT NULL REFERENCES film (film_id), actor_id INTEGER NOT NULL REFERENCES actor (actor_id),
  is_lead INTEGER NOT NULL, PRIMARY KEY (film_id, actor_id)
);
CREATE TABLE customer (
  customer_id INTEGER PRIMARY KEY, name TEXT NOT NULL, city TEXT NOT NULL, joined_on TEXT NOT NULL
);
CREATE TABLE rental (
  rental_id INTEGER PRIMARY KEY, film_id INTEGER NOT NULL REFERENCES film (film_id),
  customer_id INTEGER NOT NULL REFERENCES customer (customer_id), rented_on TEXT NOT NULL, returned_on TEXT,
  amount_paid REAL NOT NULL
);
"""

STUDIOS = (
    ("Amber Lantern", "Norway"),
    ("Blue Harbour", "Canada"),
    ("Cinder Gate", "France"),
    ("Dovetail Pictures", "Canada"),
    ("East Quay", "Japan"),
    ("Fernway Films", "India"),
)
GENRES = ("Comedy", "Drama", "Thriller", "Documentary", "Animation", "Western")
FIRST_HALVES = ("Silent", "Golden", "Broken", "Distant", "Paper", "Winter", "Hidden", "Crimson", "Last", "Electric")
SECOND_HALVES = ("River", "Mirror", "Orchard", "Signal", "Harbour", "Letters", "Kingdom", "Parade", "Summer", "Bridge")
CITIES = ("Larkfield", "Port Vesper", "Millbrook", "Stonehaven", "Eastmere")


def rows(draw: Draw) -> Tables:
    titles = draw.some([f"{first} {second}" for first in FIRST_HALVES for second in SECOND_HALVES], 60)
    films = [
        (n, title, draw.likely(GENRES), draw.between(1978, 2023), draw.between(74, 186), draw.money(1.5, 5.5))
        for n, title in enumerate(titles, 1)
    ]
    tables: Tables = {
        "studio": [(n, *studio) for n, studio in enumerate(STUDIOS, 1)],
        "film": [(*film, draw.between(1, len(STUDIOS))) for film in films],
        "actor": [(n, name, draw.between(1938, 2001)) for n, name in enumerate(draw.people(40), 1)],
        "customer": [
            (n, name, draw.one(CITIES), draw.day("2019-01-01", "2023-12-31"))
            for n, name in enumerate(draw.people(50), 1)
        ],
    }
    tables["film_actor"] = [
        (film[0], actor, int(place == 0))
        for film in films
        for place, actor in enumerate(draw.some(range(1, 39), draw.between(2, 5)))
    ]
    tables["rental"] = [(n, *_rental(draw, [film[5] for film in films])) for n in range(1, 421)]
    return tables


def _rental(draw: Draw, daily_rates: list[float]) -> tuple[int, int, str, str | None, float]:
    film, rented_on, days = draw.likely(range(1, 58)), draw.day("2024-01-01", "2024-06-30"), draw.between(1, 9)
    returned_on = None if draw.chance(0.08) else days_after(rented_on, days)
    return film, draw.likely(range(1, 47)), rented_on, returned_on, round(daily_rates[film - 1] * days, 2)
