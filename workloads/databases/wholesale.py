"""Wholesale trade: customers order parts that suppliers deliver. The eight tables and relations of TPC-H, small.

Prices and costs are whole cents and discounts whole per cent, and the tables are strict about it: such sums are exact,
in whatever order they are added up.
"""

from workloads.text2sql.sample_databases.words import Draw, Tables, days_after

SCHEMA = """
CREATE TABLE region (region_id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE nation (
  nation_id INTEGER PRIMARY KEY, name TEXT NOT NULL, region_id INTEGER NOT NULL REFERENCES region (region_id)
);
CREATE TABLE supplier (
  supplier_id INTEGER PRIMARY KEY, name TEXT NOT NULL, nation_id INTEGER NOT NULL REFERENCES nation (nation_id),
  balance REAL NOT NULL
);
CREATE TABLE customer (
  customer_id INTEGER PRIMARY KEY, name TEXT NOT NULL, nation_id INTEGER NOT NULL REFERENCES nation (nation_id),
  segment TEXT NOT NULL, balance REAL NOT NULL
);
CREATE TABLE part (
  part_id INTEGER PRIMARY KEY, name TEXT NOT NULL, brand TEXT NOT NULL, size INTEGER NOT NULL, price INTEGER NOT NULL
);
CREATE TABLE part_supplier (
  part_id INTEGER NOT NULL REFERENCES part (part_id),
  supplier_id INTEGER NOT NULL REFERENCES supplier (supplier_id),
  in_stock INTEGER NOT NULL, cost INTEGER NOT NULL, PRIMARY KEY (part_id, supplier_id)
) STRICT;
CREATE TABLE customer_order (
  order_id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customer (customer_id),
  ordered_on TEXT NOT NULL, priority TEXT NOT NULL, status TEXT NOT NULL
);
CREATE TABLE line_item (
  order_id INTEGER NOT NULL REFERENCES customer_order (order_id), line_no INTEGER NOT NULL,
  part_id INTEGER NOT NULL, supplier_id INTEGER NOT NULL, quantity INTEGER NOT NULL, price INTEGER NOT NULL,
  discount INTEGER NOT NULL, ship_mode TEXT NOT NULL, shipped_on TEXT NOT NULL, received_on TEXT NOT NULL,
  returned INTEGER NOT NULL, PRIMARY KEY (order_id, line_no),
  FOREIGN KEY (part_id, supplier_id) REFERENCES part_supplier (part_id, supplier_id)
) STRICT;
CREATE INDEX customer_by_nation ON customer (nation_id);
CREATE INDEX order_by_customer ON customer_order (customer_id);
CREATE INDEX line_item_by_part ON line_item (part_id);
"""

NATIONS = {
    "AFRICA": ("Algeria", "Ethiopia", "Kenya", "Morocco", "Mozambique"),
    "AMERICA": ("Argentina", "Brazil", "Canada", "Peru", "United States"),
    "ASIA": ("China", "India", "Indonesia", "Japan", "Vietnam"),
    "EUROPE": ("France", "Germany", "Romania", "Spain", "United Kingdom"),
    "MIDDLE EAST": ("Egypt", "Iran", "Iraq", "Jordan", "Saudi Arabia"),
}
REGIONS = tuple(NATIONS)
SEGMENTS = ("AUTOMOBILE", "BUILDING", "FURNITURE", "HOUSEHOLD", "MACHINERY")
BRANDS = tuple(f"Brand#{maker}{line}" for maker in range(1, 6) for line in range(1, 6))
YEARS = tuple(range(1992, 1999))
PRIORITIES = ("1-URGENT", "2-HIGH", "3-MEDIUM", "4-LOW")
SHIP_MODES = ("AIR", "MAIL", "RAIL", "SHIP", "TRUCK")
METALS = ("brass", "copper", "nickel", "steel", "tin")
FINISHES = ("brushed", "burnished", "plated", "polished", "anodized")
THINGS = ("bracket", "coupling", "flange", "gasket", "hinge", "pulley", "valve", "washer")


def rows(draw: Draw, scale: int) -> Tables:
    """About 9,000 rows for each unit of `scale`."""
    suppliers, customers, parts, orders = 20 * scale, 150 * scale, 200 * scale, 1500 * scale
    tables = _places()
    tables["supplier"] = [
        (n, f"Supplier {n:06}", draw.between(1, 25), draw.money(-900, 9900)) for n in range(1, suppliers + 1)
    ]
    tables["customer"] = [
        (n, f"Customer {n:06}", draw.between(1, 25), draw.one(SEGMENTS), draw.money(-900, 9900))
        for n in range(1, customers + 1)
    ]
    tables["part"] = [
        (n, _part_name(draw), draw.one(BRANDS), draw.between(1, 50), _price(n)) for n in range(1, parts + 1)
    ]
    tables["part_supplier"] = [
        (part, supplier, draw.between(1, 9999), round(_price(part) * (0.5 + draw.money(0, 0.3))))
        for part in range(1, parts + 1)
        for supplier in _suppliers_of(part, suppliers)
    ]
    days = [_order_day(draw) for _ in range(orders)]
    tables["customer_order"] = [
        (n, draw.likely(range(1, customers + 1)), day, draw.one(PRIORITIES), draw.one(("F", "O", "F")))
        for n, day in enumerate(days, 1)
    ]
    tables["line_item"] = [
        _line_item(draw, n, line, day, parts, suppliers)
        for n, day in enumerate(days, 1)
        for line in range(1, draw.between(1, 6) + 1)
    ]
    return tables


def _places() -> Tables:
    nations = [(name, region) for region, names in enumerate(NATIONS.values(), 1) for name in names]
    return {
        "region": [(n, name) for n, name in enumerate(REGIONS, 1)],
        "nation": [(n, *nation) for n, nation in enumerate(nations, 1)],
    }


def _part_name(draw: Draw) -> str:
    return f"{draw.one(FINISHES)} {draw.one(METALS)} {draw.one(THINGS)}"


def _price(part: int) -> int:
    """In cents."""
    return 9000 + part % 200 * 450 + part % 7 * 10


def _suppliers_of(part: int, suppliers: int) -> list[int]:
    return [(part + place * (suppliers // 4)) % suppliers + 1 for place in range(4)]


def _order_day(draw: Draw) -> str:
    return draw.day(f"{YEARS[0]}-01-01", f"{YEARS[-1]}-08-02")


def _line_item(
    draw: Draw, order: int, line: int, ordered_on: str, parts: int, suppliers: int
) -> tuple[int, int, int, int, int, int, int, str, str, str, int]:
    part, quantity = draw.between(1, parts), draw.between(1, 50)
    supplier = draw.one(_suppliers_of(part, suppliers))
    shipped_on = days_after(ordered_on, draw.between(1, 121))
    received_on = days_after(shipped_on, draw.between(1, 30))
    discount, mode = draw.between(0, 10), draw.one(SHIP_MODES)
    returned = int(draw.chance(0.2))
    total = _price(part) * quantity
    return order, line, part, supplier, quantity, total, discount, mode, shipped_on, received_on, returned
