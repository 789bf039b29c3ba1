"""A shop for outdoor things that takes orders."""

from workloads.text2sql.sample_databases.words import Draw, Tables, days_after

SCHEMA = """
CREATE TABLE supplier (supplier_id INTEGER PRIMARY KEY, name TEXT NOT NULL, country TEXT NOT NULL);
CREATE TABLE product (
  product_id INTEGER PRIMARY KEY, name TEXT NOT NULL, category TEXT NOT NULL, unit_price REAL NOT NULL,
  in_stock INTEGER NOT NULL, supplier_id INTEGER NOT NULL REFERENCES supplier (supplier_id)
);
CREATE TABLE customer (
  customer_id INTEGER PRIMARY KEY, name TEXT NOT NULL, country TEXT NOT NULL, segment TEXT NOT NULL
);
CREATE TABLE purchase_order (
  order_id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customer (customer_id),
  ordered_on TEXT NOT NULL, shipped_on TEXT, status TEXT NOT NULL
);
CREATE TABLE order_line (
  order_id INTEGER NOT NULL REFERENCES purchase_order (order_id), line_no INTEGER NOT NULL,
  product_id INTEGER NOT NULL REFERENCES product (product_id), quantity INTEGER NOT NULL, discount REAL NOT NULL,
  PRIMARY KEY (order_id, line_no)
);
CREATE TABLE review (
  review_id INTEGER PRIMARY KEY, product_id INTEGER NOT NULL REFERENCES product (product_id),
  customer_id INTEGER NOT NULL REFERENCES customer (customer_id), stars INTEGER NOT NULL, written_on TEXT NOT NULL
);
"""

SUPPLIERS = (
    ("Alder & Finch", "Germany"),
    ("Boreal Gear", "Sweden"),
    ("Cobalt Trading", "Portugal"),
    ("Dunmore Mills", "Ireland"),
    ("Evergreen Works", "Sweden"),
)
CATEGORIES = {
    "Tents": ("Dome Tent", "Tunnel Tent", "Tarp", "Bivouac Bag"),
    "Cooking": ("Gas Stove", "Pot Set", "Kettle", "Mug", "Folding Spork"),
    "Clothing": ("Rain Jacket", "Wool Hat", "Trail Trousers", "Base Layer", "Gloves"),
    "Packs": ("Day Pack", "Trekking Pack", "Dry Bag"),
    "Lights": ("Head Lamp", "Camp Lantern", "Bike Light"),
}
GRADES = ("Basic", "Trail", "Summit")
COUNTRIES = ("Germany", "France", "Poland", "Spain", "Denmark", "Ireland")
SEGMENTS = ("Consumer", "Club", "Business")


def rows(draw: Draw) -> Tables:
    goods = [
        (f"{grade} {name}", category) for category, names in CATEGORIES.items() for name in names for grade in GRADES
    ]
    tables: Tables = {
        "supplier": [(n, *supplier) for n, supplier in enumerate(SUPPLIERS, 1)],
        "product": [
            (n, name, category, draw.money(6, 320), draw.between(0, 90), draw.between(1, len(SUPPLIERS)))
            for n, (name, category) in enumerate(goods, 1)
        ],
        "customer": [
            (n, name, draw.likely(COUNTRIES), draw.likely(SEGMENTS)) for n, name in enumerate(draw.people(70), 1)
        ],
        "purchase_order": [(n, *_purchase(draw)) for n in range(1, 261)],
    }
    tables["order_line"] = [
        (order, line, product, draw.between(1, 6), draw.one((0.0, 0.0, 0.0, 0.05, 0.1, 0.2)))
        for order in range(1, 261)
        for line, product in enumerate(draw.some(range(1, 57), draw.between(1, 4)), 1)
    ]
    tables["review"] = [
        (
            n,
            draw.likely(range(1, 53)),
            draw.between(1, 66),
            draw.one((1, 2, 3, 4, 4, 5, 5)),
            draw.day("2024-02-01", "2024-12-31"),
        )
        for n in range(1, 181)
    ]
    return tables


def _purchase(draw: Draw) -> tuple[int, str, str | None, str]:
    ordered_on, status = (
        draw.day("2024-01-01", "2024-12-20"),
        draw.one(("shipped",) * 6 + ("open", "cancelled", "returned")),
    )
    shipped_on = days_after(ordered_on, draw.between(1, 12)) if status in ("shipped", "returned") else None
    return draw.likely(range(1, 65)), ordered_on, shipped_on, status
