"""A three-day music festival."""

from workloads.text2sql.sample_databases.words import Draw, Tables

SCHEMA = """
CREATE TABLE stage (
  stage_id INTEGER PRIMARY KEY, name TEXT NOT NULL, capacity INTEGER NOT NULL, is_covered INTEGER NOT NULL
);
CREATE TABLE band (
  band_id INTEGER PRIMARY KEY, name TEXT NOT NULL, genre TEXT NOT NULL, country TEXT NOT NULL,
  founded_year INTEGER NOT NULL
);
CREATE TABLE performance (
  performance_id INTEGER PRIMARY KEY, band_id INTEGER NOT NULL REFERENCES band (band_id),
  stage_id INTEGER NOT NULL REFERENCES stage (stage_id), day TEXT NOT NULL, starts_at TEXT NOT NULL,
  minutes INTEGER NOT NULL, fee REAL NOT NULL
);
CREATE TABLE ticket_type (ticket_type_id INTEGER PRIMARY KEY, name TEXT NOT NULL, price REAL NOT NULL);
CREATE TABLE visitor (
  visitor_id INTEGER PRIMARY KEY, name TEXT NOT NULL, home_city TEXT NOT NULL, age INTEGER NOT NULL
);
CREATE TABLE ticket (
  ticket_id INTEGER PRIMARY KEY, visitor_id INTEGER NOT NULL REFERENCES visitor (visitor_id),
  ticket_type_id INTEGER NOT NULL REFERENCES ticket_type (ticket_type_id), bought_on TEXT NOT NULL
);
CREATE TABLE rating (
  visitor_id INTEGER NOT NULL REFERENCES visitor (visitor_id),
  performance_id INTEGER NOT NULL REFERENCES performance (performance_id), stars INTEGER NOT NULL,
  PRIMARY KEY (visitor_id, performance_id)
);
"""

STAGES = (("Meadow", 9000, 0), ("Barn", 1200, 1), ("Lakeside", 4500, 0), ("Tent", 2200, 1))
GENRES = ("Indie", "Folk", "Electronic", "Jazz", "Metal")
COUNTRIES = ("Iceland", "Brazil", "Belgium", "Nigeria", "Australia")
FIRST_WORDS = ("Velvet", "Hollow", "Neon", "Marble", "Quiet", "Paper", "Northern", "Lucky")
SECOND_WORDS = ("Foxes", "Engines", "Choir", "Satellites", "Harvest", "Avenue", "Wolves")
TICKET_TYPES = (("Weekend", 149.0), ("Friday", 59.0), ("Saturday", 69.0), ("Sunday", 59.0), ("Backstage", 320.0))
DAYS = ("Friday", "Saturday", "Sunday")
CITIES = ("Hartwell", "Ostrow", "Pinehurst", "Quill Bay", "Redmarch", "Saltby")


def rows(draw: Draw) -> Tables:
    names = draw.some([f"{first} {second}" for first in FIRST_WORDS for second in SECOND_WORDS], 30)
    tables: Tables = {
        "stage": [(n, *stage) for n, stage in enumerate(STAGES, 1)],
        "band": [
            (n, name, draw.likely(GENRES), draw.one(COUNTRIES), draw.between(1985, 2022))
            for n, name in enumerate(names, 1)
        ],
        "performance": [(n, *_performance(draw)) for n in range(1, 49)],
        "ticket_type": [(n, *kind) for n, kind in enumerate(TICKET_TYPES, 1)],
        "visitor": [(n, name, draw.likely(CITIES), draw.between(16, 68)) for n, name in enumerate(draw.people(120), 1)],
    }
    tables["ticket"] = [
        (n, draw.between(1, 110), draw.likely(range(1, 6)), draw.day("2024-02-01", "2024-07-15")) for n in range(1, 151)
    ]
    pairs = draw.some([(visitor, show) for visitor in range(1, 111) for show in range(1, 47)], 330)
    tables["rating"] = [(visitor, show, draw.one((1, 2, 3, 3, 4, 4, 4, 5, 5))) for visitor, show in pairs]
    return tables


def _performance(draw: Draw) -> tuple[int, int, str, str, int, float]:
    minutes = draw.one((40, 50, 60, 75, 90))
    return (
        draw.between(1, 28),
        draw.between(1, 4),
        draw.one(DAYS),
        draw.clock(12, 22),
        minutes,
        float(draw.between(4, 90) * 250),
    )
