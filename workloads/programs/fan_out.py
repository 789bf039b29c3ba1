"""Fan-out: a rule reads the request, five analysts work side by side, three judges read all five, one merges.

The shape of workload W6 of Halo (arXiv 2509.02121): 9 model calls on three models, 12 queries, 5 of which ask again for
what an analyst has read, and the rule.
"""

import halo
from workloads.programs.sql_tools import look_up
from workloads.programs.trade_queries import (
    BRAND_SHARE,
    DISCOUNTS,
    LOCAL_TRADE,
    OPEN_ORDERS,
    PRICING,
    PROFIT,
    TOP_SUPPLIERS,
    read_request,
)

SYSTEM = "You sit on the board of a wholesale trader. Use only the figures given."

#: What each analyst looks at: the question, and the query.
ANALYSTS = (
    ("Do prices hold?", PRICING),
    ("Do discounts pay?", DISCOUNTS),
    ("Which orders need care?", OPEN_ORDERS),
    ("Which nations matter?", LOCAL_TRADE),
    ("Where is profit made?", PROFIT),
)


@halo.llm(model="large", max_tokens=160)
def analyse(task: str, figures: str, request: str) -> str:
    return f"{SYSTEM}\n{task}\nFigures:\n{figures}\nFor: {request}"


@halo.llm(model="small", max_tokens=160)
def judge_growth(reports: list[str], prices: str, discounts: str) -> str:
    return f"{SYSTEM}\nShould we grow?\nReports: {reports}\nPrices:\n{prices}\nDiscounts:\n{discounts}"


@halo.llm(model="medium", max_tokens=160)
def judge_risk(reports: list[str], orders: str, share: str) -> str:
    return f"{SYSTEM}\nWhat may go wrong?\nReports: {reports}\nOpen orders:\n{orders}\nShare of the brand:\n{share}"


@halo.llm(model="medium", max_tokens=160)
def judge_partners(reports: list[str], nations: str, profit: str, suppliers: str) -> str:
    return (
        f"{SYSTEM}\nWith whom should we trade?\nReports: {reports}\nNations:\n{nations}\nProfit:\n{profit}\n"
        f"Suppliers:\n{suppliers}"
    )


@halo.llm(model="large", max_tokens=256)
def decide(request: str, growth: str, risk: str, partners: str) -> str:
    return f"{SYSTEM}\nDecide, in one paragraph.\nFor: {request}\nGrowth: {growth}\nRisk: {risk}\nPartners: {partners}"


@halo.workflow(name="fan-out")
def fan_out(request: str, database: str = "wholesale") -> str:
    """Decide about a region, a segment, a year and a brand."""
    scope = read_request(request)
    year = {"first": scope.first, "last": scope.last}
    brand, region, segment = {"brand": scope.brand}, {"region": scope.region}, {"segment": scope.segment}
    needs = {
        PRICING: ("pricing", year),
        DISCOUNTS: ("discounts", year),
        OPEN_ORDERS: ("open_orders", segment | year),
        LOCAL_TRADE: ("local_trade", region | year),
        PROFIT: ("profit", brand),
        BRAND_SHARE: ("brand_share", brand | year),
        TOP_SUPPLIERS: ("top_suppliers", year),
    }

    def read(sql: str) -> str:
        name, values = needs[sql]
        return look_up.named(name)(database, sql, values)

    reports = halo.join([analyse(task, read(sql), request) for task, sql in ANALYSTS], name="reports")
    growth = judge_growth(reports, read(PRICING), read(DISCOUNTS))
    risk = judge_risk(reports, read(OPEN_ORDERS), read(BRAND_SHARE))
    partners = judge_partners(reports, read(LOCAL_TRADE), read(PROFIT), read(TOP_SUPPLIERS))
    return decide(request, growth, risk, partners)
