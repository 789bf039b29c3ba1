"""What workflows ask of the database `wholesale`: short forms of TPC-H's queries, and how a request names their values.

Places: region, segment, brand, first and last (days). Money is kept in cents and discounts in per cent.
"""

from pydantic import BaseModel

import halo


class Scope(BaseModel):
    """What a request is about; `first` and `last` are days."""

    region: str
    segment: str
    brand: str
    first: str
    last: str


@halo.tool(effect="pure")
def read_request(request: str) -> Scope:
    """Read `region=MIDDLE_EAST segment=BUILDING year=1995 brand=Brand#12`; what is not there has a usual value."""
    given = dict(part.split("=", 1) for part in request.split() if "=" in part)
    year = given.get("year", "1995")
    return Scope(
        region=given.get("region", "EUROPE").replace("_", " "),
        segment=given.get("segment", "BUILDING"),
        brand=given.get("brand", "Brand#11"),
        first=f"{year}-01-01",
        last=f"{year}-12-31",
    )


PRICING = """
SELECT returned, count(*) AS lines, sum(quantity) AS quantity,
  round(sum(price * (100 - discount)) / 10000.0, 2) AS revenue
FROM line_item WHERE shipped_on BETWEEN :first AND :last GROUP BY returned ORDER BY returned
"""

CHEAPEST_SUPPLIERS = """
SELECT part.name, supplier.name AS supplier, part_supplier.cost / 100.0 AS cost
FROM part JOIN part_supplier USING (part_id) JOIN supplier USING (supplier_id)
JOIN nation USING (nation_id) JOIN region USING (region_id)
WHERE part.brand = :brand AND region.name = :region ORDER BY part_supplier.cost, part.part_id, supplier.supplier_id
"""

OPEN_ORDERS = """
SELECT customer_order.order_id, customer_order.ordered_on, sum(line_item.price) / 100.0 AS value
FROM customer JOIN customer_order USING (customer_id) JOIN line_item USING (order_id)
WHERE customer.segment = :segment AND customer_order.ordered_on BETWEEN :first AND :last
AND customer_order.status = 'O'
GROUP BY customer_order.order_id ORDER BY value DESC, customer_order.order_id
"""

LOCAL_TRADE = """
SELECT nation.name, round(sum(line_item.price * (100 - line_item.discount)) / 10000.0, 2) AS revenue
FROM region JOIN nation USING (region_id) JOIN customer USING (nation_id)
JOIN customer_order USING (customer_id) JOIN line_item USING (order_id)
WHERE region.name = :region AND customer_order.ordered_on BETWEEN :first AND :last
GROUP BY nation.nation_id ORDER BY revenue DESC, nation.nation_id
"""

DISCOUNTS = """
SELECT discount, count(*) AS lines, round(sum(price * discount) / 10000.0, 2) AS given_away FROM line_item
WHERE shipped_on BETWEEN :first AND :last AND quantity < 24 GROUP BY discount ORDER BY discount
"""

PROFIT = """
SELECT nation.name, round(sum(line_item.price * (100 - line_item.discount)
  - 100 * part_supplier.cost * line_item.quantity) / 10000.0, 2) AS profit
FROM part JOIN line_item USING (part_id)
JOIN part_supplier ON part_supplier.part_id = part.part_id AND part_supplier.supplier_id = line_item.supplier_id
JOIN supplier ON supplier.supplier_id = line_item.supplier_id JOIN nation USING (nation_id)
WHERE part.brand = :brand GROUP BY nation.nation_id ORDER BY profit DESC, nation.nation_id
"""

SHIP_MODES = """
SELECT ship_mode, count(*) AS lines, sum(received_on > date(shipped_on, '+14 days')) AS late FROM line_item
WHERE received_on BETWEEN :first AND :last GROUP BY ship_mode ORDER BY ship_mode
"""

BRAND_SHARE = """
SELECT round(100.0 * sum(CASE WHEN part.brand = :brand THEN line_item.price ELSE 0 END) / sum(line_item.price), 2)
AS percent FROM line_item JOIN part USING (part_id) WHERE line_item.shipped_on BETWEEN :first AND :last
"""

TOP_SUPPLIERS = """
SELECT supplier.name, round(sum(line_item.price * (100 - line_item.discount)) / 10000.0, 2) AS revenue
FROM line_item JOIN supplier USING (supplier_id) WHERE line_item.shipped_on BETWEEN :first AND :last
GROUP BY supplier.supplier_id ORDER BY revenue DESC, supplier.supplier_id
"""
