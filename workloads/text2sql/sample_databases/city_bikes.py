"""A city's shared bikes."""

from workloads.text2sql.sample_databases.words import Draw, Tables

SCHEMA = """
CREATE TABLE district (district_id INTEGER PRIMARY KEY, name TEXT NOT NULL, population INTEGER NOT NULL);
CREATE TABLE station (
  station_id INTEGER PRIMARY KEY, name TEXT NOT NULL, district_id INTEGER NOT NULL REFERENCES district (district_id),
  docks INTEGER NOT NULL, opened_on TEXT NOT NULL
);
CREATE TABLE bike (
  bike_id INTEGER PRIMARY KEY, model TEXT NOT NULL, is_electric INTEGER NOT NULL, bought_on TEXT NOT NULL
);
CREATE TABLE member (
  member_id INTEGER PRIMARY KEY, name TEXT NOT NULL, plan TEXT NOT NULL, birth_year INTEGER NOT NULL,
  joined_on TEXT NOT NULL
);
CREATE TABLE trip (
  trip_id INTEGER PRIMARY KEY, bike_id INTEGER NOT NULL REFERENCES bike (bike_id),
  member_id INTEGER NOT NULL REFERENCES member (member_id),
  start_station_id INTEGER NOT NULL REFERENCES station (station_id),
  end_station_id INTEGER NOT NULL REFERENCES station (station_id),
  ridden_on TEXT NOT NULL, minutes INTEGER NOT NULL, distance_km REAL NOT NULL
);
CREATE TABLE repair (
  repair_id INTEGER PRIMARY KEY, bike_id INTEGER NOT NULL REFERENCES bike (bike_id), reported_on TEXT NOT NULL,
  part TEXT NOT NULL, cost REAL NOT NULL
);
"""

DISTRICTS = (
    ("Old Town", 18400),
    ("Riverside", 27150),
    ("Northgate", 33900),
    ("Hillcrest", 21600),
    ("Docklands", 15250),
)
PLACES = ("Square", "Station", "Park", "Market", "Bridge")
MODELS = (("Swift 2", 0), ("Swift 3", 0), ("Volt", 1), ("Volt Plus", 1))
PLANS = ("annual", "monthly", "student", "day pass")
PARTS = ("brakes", "chain", "tyre", "light", "saddle", "battery")


def rows(draw: Draw) -> Tables:
    stations = [(f"{district} {place}", n) for n, (district, _) in enumerate(DISTRICTS, 1) for place in PLACES]
    tables: Tables = {
        "district": [(n, *district) for n, district in enumerate(DISTRICTS, 1)],
        "station": [
            (n, name, district, draw.between(8, 40), draw.day("2016-03-01", "2023-10-31"))
            for n, (name, district) in enumerate(stations, 1)
        ],
        "bike": [(n, *draw.one(MODELS), draw.day("2018-01-01", "2024-02-28")) for n in range(1, 81)],
        "member": [
            (n, name, draw.likely(PLANS), draw.between(1952, 2006), draw.day("2018-01-01", "2024-05-31"))
            for n, name in enumerate(draw.people(75), 1)
        ],
        "trip": [(n, *_trip(draw)) for n in range(1, 521)],
    }
    tables["repair"] = [
        (n, draw.likely(range(1, 77)), draw.day("2023-01-01", "2024-09-30"), draw.likely(PARTS), draw.money(8, 190))
        for n in range(1, 121)
    ]
    return tables


def _trip(draw: Draw) -> tuple[int, int, int, int, str, int, float]:
    minutes = draw.between(4, 75)
    start, end = draw.likely(range(1, 25)), draw.likely(range(1, 26))
    day, km = draw.day("2024-03-01", "2024-09-30"), round(minutes * draw.money(0.12, 0.32), 1)
    return draw.between(1, 78), draw.likely(range(1, 70)), start, end, day, minutes, km
