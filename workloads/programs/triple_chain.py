"""Triple chain: a planner, three chains of calls, each on a model of its own, a second reading, and a merging head.

The shape of workload W2 of Halo (arXiv 2509.02121): 10 model calls on three models, 3 tools, one at each chain's head.
"""

from pydantic import BaseModel, Field

import halo
from workloads.programs.film_queries import BY_COUNTRY, BY_KEYWORD, TOP_RATED
from workloads.programs.sql_tools import look_up

SYSTEM = "You advise a film club. Use only what the catalogue says."


class Wish(BaseModel):
    """What the club wants to see."""

    keyword: str = Field(max_length=30)
    genre: str = Field(max_length=20)


@halo.llm(model="small", max_tokens=96, output=Wish)
def plan(question: str) -> str:
    return f"{SYSTEM}\nSay what to look for.\nQuestion: {question}"


@halo.llm(model="small", max_tokens=128)
def list_matches(question: str, matches: str) -> str:
    return f"{SYSTEM}\nList the films that fit.\nQuestion: {question}\nMatches:\n{matches}"


@halo.llm(model="small", max_tokens=96)
def shorten_matches(matches: str) -> str:
    return f"{SYSTEM}\nKeep the three best of this list.\nList: {matches}"


@halo.llm(model="medium", max_tokens=128)
def rank_rated(question: str, rated: str) -> str:
    return f"{SYSTEM}\nRank the films by how well they fit.\nQuestion: {question}\nBest rated:\n{rated}"


@halo.llm(model="medium", max_tokens=96)
def defend_rank(ranking: str) -> str:
    return f"{SYSTEM}\nSay why the first of this ranking is first.\nRanking: {ranking}"


@halo.llm(model="large", max_tokens=160)
def compare_countries(question: str, countries: str) -> str:
    return f"{SYSTEM}\nSay which countries matter here.\nQuestion: {question}\nCountries:\n{countries}"


@halo.llm(model="large", max_tokens=160)
def doubt_countries(comparison: str) -> str:
    return f"{SYSTEM}\nName the weakest claim of this comparison.\nComparison: {comparison}"


@halo.llm(model="large", max_tokens=160)
def mend_countries(comparison: str, doubt: str) -> str:
    return f"{SYSTEM}\nWrite the comparison again.\nComparison: {comparison}\nWeakest claim: {doubt}"


@halo.llm(model="small", max_tokens=96)
def restate(question: str, wish: Wish) -> str:
    return f"{SYSTEM}\nSay in other words what is asked.\nUnderstood as: {wish}\nQuestion: {question}"


@halo.llm(model="medium", max_tokens=256)
def merge(question: str, restated: str, matches: str, ranking: str, countries: str) -> str:
    return (
        f"{SYSTEM}\nAdvise the club in one paragraph.\nQuestion: {question}\nIn other words: {restated}\n"
        f"Matches: {matches}\nRanking: {ranking}\nCountries: {countries}"
    )


@halo.workflow(name="triple-chain")
def triple_chain(question: str, database: str = "films") -> str:
    """Advise a film club by three lines of thought."""
    wish = plan(question)
    matches = list_matches(question, look_up.named("by_keyword")(database, BY_KEYWORD, {"keyword": wish.keyword}))
    ranking = rank_rated(question, look_up.named("top_rated")(database, TOP_RATED, {"genre": wish.genre}))
    countries = compare_countries(question, look_up.named("by_country")(database, BY_COUNTRY, {"genre": wish.genre}))
    return merge(
        question,
        restate(question, wish),
        shorten_matches(matches),
        defend_rank(ranking),
        mend_countries(countries, doubt_countries(countries)),
    )
