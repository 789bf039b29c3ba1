"""Trident: a rule reads the request, three analysts work side by side, two hubs join them, a tail, the answer.

The shape of workload W5 of Halo (arXiv 2509.02121): 7 model calls on three models, 9 queries that need only what the
rule says, and the rule.
"""

import halo
from workloads.programs.sql_tools import look_up
from workloads.programs.trade_queries import (
    BRAND_SHARE,
    CHEAPEST_SUPPLIERS,
    DISCOUNTS,
    LOCAL_TRADE,
    OPEN_ORDERS,
    PRICING,
    PROFIT,
    SHIP_MODES,
    TOP_SUPPLIERS,
    read_request,
)

SYSTEM = "You analyse wholesale trade. Use only the figures given."


@halo.llm(model="small", max_tokens=160)
def analyse_prices(request: str, pricing: str, discounts: str) -> str:
    return f"{SYSTEM}\nWhat do prices and discounts say?\nPrices:\n{pricing}\nDiscounts:\n{discounts}\nFor: {request}"


@halo.llm(model="medium", max_tokens=160)
def analyse_demand(request: str, orders: str, trade: str) -> str:
    return f"{SYSTEM}\nWhere is demand?\nOpen orders:\n{orders}\nTrade in the region:\n{trade}\nFor: {request}"


@halo.llm(model="large", max_tokens=160)
def analyse_supply(request: str, suppliers: str, profit: str) -> str:
    return f"{SYSTEM}\nWho supplies best?\nSuppliers:\n{suppliers}\nProfit:\n{profit}\nFor: {request}"


@halo.llm(model="medium", max_tokens=192)
def join_analyses(prices: str, demand: str, supply: str) -> str:
    return f"{SYSTEM}\nBring these together.\nPrices: {prices}\nDemand: {demand}\nSupply: {supply}"


@halo.llm(model="large", max_tokens=192)
def weigh_delivery(joined: str, modes: str, share: str) -> str:
    return f"{SYSTEM}\nWeigh this against delivery.\nSo far: {joined}\nShip modes:\n{modes}\nShare:\n{share}"


@halo.llm(model="small", max_tokens=128)
def name_risks(weighed: str) -> str:
    return f"{SYSTEM}\nName three risks.\nSituation: {weighed}"


@halo.llm(model="medium", max_tokens=256)
def advise(request: str, risks: str, best: str) -> str:
    return f"{SYSTEM}\nAdvise the buyer in one paragraph.\nFor: {request}\nRisks: {risks}\nBest suppliers:\n{best}"


@halo.workflow
def trident(request: str, database: str = "wholesale") -> str:
    """Advise a buyer for a region, a segment, a year and a brand."""
    scope = read_request(request)
    year = {"first": scope.first, "last": scope.last}
    brand, region, segment = {"brand": scope.brand}, {"region": scope.region}, {"segment": scope.segment}

    prices = analyse_prices(
        request,
        look_up.named("pricing")(database, PRICING, year),
        look_up.named("discounts")(database, DISCOUNTS, year),
    )
    demand = analyse_demand(
        request,
        look_up.named("open_orders")(database, OPEN_ORDERS, segment | year),
        look_up.named("local_trade")(database, LOCAL_TRADE, region | year),
    )
    supply = analyse_supply(
        request,
        look_up.named("cheapest_suppliers")(database, CHEAPEST_SUPPLIERS, brand | region),
        look_up.named("profit")(database, PROFIT, brand),
    )
    joined = join_analyses(prices, demand, supply)
    weighed = weigh_delivery(
        joined,
        look_up.named("ship_modes")(database, SHIP_MODES, year),
        look_up.named("brand_share")(database, BRAND_SHARE, brand | year),
    )
    return advise(request, name_risks(weighed), look_up.named("top_suppliers")(database, TOP_SUPPLIERS, year))
