"""Bridge: a main chain of three calls, from which two side chains branch off at different depths and meet it again.

The shape of workload W4 of Halo (arXiv 2509.02121): 9 model calls on three models, 3 tools that need only the root.
"""

from pydantic import BaseModel, Field

import halo
from workloads.programs.article_queries import CATEGORIES, LINKS_OUT, MATCHES
from workloads.programs.sql_tools import look_up

SYSTEM = "You prepare questions for a quiz. Use only what the encyclopedia says."


class Theme(BaseModel):
    """What the round of the quiz is about."""

    keyword: str = Field(max_length=30)
    level: str = Field(max_length=20)


@halo.llm(model="small", max_tokens=96, output=Theme)
def choose_theme(title: str) -> str:
    return f"{SYSTEM}\nChoose a theme near this article.\nTitle: {title}"


@halo.llm(model="small", max_tokens=160)
def collect_facts(theme: Theme, matches: str) -> str:
    return f"{SYSTEM}\nList facts worth asking for.\nTheme: {theme}\nArticles:\n{matches}"


@halo.llm(model="small", max_tokens=160)
def ask_easy(facts: str) -> str:
    return f"{SYSTEM}\nWrite two easy questions.\nFacts: {facts}"


@halo.llm(model="medium", max_tokens=160)
def connect_facts(facts: str, links: str) -> str:
    return f"{SYSTEM}\nConnect these facts with what the articles name.\nFacts: {facts}\nNamed:\n{links}"


@halo.llm(model="medium", max_tokens=160)
def ask_hard(connected: str) -> str:
    return f"{SYSTEM}\nWrite two hard questions.\nFacts: {connected}"


@halo.llm(model="large", max_tokens=160)
def find_traps(theme: Theme, categories: str) -> str:
    return f"{SYSTEM}\nSay what people confuse here.\nTheme: {theme}\nCategories:\n{categories}"


@halo.llm(model="large", max_tokens=160)
def ask_tricky(traps: str) -> str:
    return f"{SYSTEM}\nWrite a question whose obvious answer is wrong.\nConfusions: {traps}"


@halo.llm(model="small", max_tokens=192)
def sample(easy: str, hard: str, tricky: str) -> str:
    return f"{SYSTEM}\nTake one question of each list.\nEasy: {easy}\nHard: {hard}\nTricky: {tricky}"


@halo.llm(model="medium", max_tokens=256)
def finish(questions: str) -> str:
    return f"{SYSTEM}\nWrite the round as it is read aloud, with its answers.\nQuestions: {questions}"


@halo.workflow
def bridge(title: str, database: str = "encyclopedia") -> str:
    """Write one round of a quiz around an article."""
    theme = choose_theme(title)
    word = {"keyword": theme.keyword}
    facts = collect_facts(theme, look_up.named("matches")(database, MATCHES, word))
    hard = ask_hard(connect_facts(facts, look_up.named("links_out")(database, LINKS_OUT, word)))
    tricky = ask_tricky(find_traps(theme, look_up.named("categories")(database, CATEGORIES, word)))
    return finish(sample(ask_easy(facts), hard, tricky))
