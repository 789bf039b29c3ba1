"""Long chain: three chains of unlike length on three models, which begin at one root and end in one text.

The shape of workload W3 of Halo (arXiv 2509.02121): 9 model calls, 6 tools that need only what the root says.
"""

from pydantic import BaseModel, Field

import halo
from workloads.programs.article_queries import CATEGORIES, LINKS_IN, LINKS_OUT, MATCHES, OVERVIEW, SAME_SUBJECT
from workloads.programs.sql_tools import look_up

SYSTEM = "You write for an encyclopedia. Use only what its articles say."


class Topic(BaseModel):
    """What the new text is about."""

    keyword: str = Field(max_length=30)
    angle: str = Field(max_length=80)


@halo.llm(model="medium", max_tokens=96, output=Topic)
def choose_topic(title: str) -> str:
    return f"{SYSTEM}\nChoose a keyword to search for, and an angle.\nTitle: {title}"


@halo.llm(model="medium", max_tokens=192)
def outline(topic: Topic, overview: str, matches: str) -> str:
    return f"{SYSTEM}\nOutline the text.\nTopic: {topic}\nArticle:\n{overview}\nNear it:\n{matches}"


@halo.llm(model="medium", max_tokens=256)
def draft(outlined: str) -> str:
    return f"{SYSTEM}\nWrite the text after this outline.\nOutline: {outlined}"


@halo.llm(model="large", max_tokens=160)
def classify(title: str, categories: str, siblings: str) -> str:
    return f"{SYSTEM}\nSay what kind of thing this is.\nTitle: {title}\nCategories:\n{categories}\nAlike:\n{siblings}"


@halo.llm(model="large", max_tokens=160)
def contrast(kind: str) -> str:
    return f"{SYSTEM}\nSay what sets it apart from others of its kind.\nKind: {kind}"


@halo.llm(model="small", max_tokens=128)
def pick_links(topic: Topic, links_out: str, links_in: str) -> str:
    return f"{SYSTEM}\nPick the links worth following.\nTopic: {topic}\nFrom it:\n{links_out}\nTo it:\n{links_in}"


@halo.llm(model="small", max_tokens=128)
def explain_links(links: str) -> str:
    return f"{SYSTEM}\nSay in a sentence each why these links matter.\nLinks: {links}"


@halo.llm(model="small", max_tokens=96)
def headline(topic: Topic) -> str:
    return f"{SYSTEM}\nWrite a headline for this topic.\nTopic: {topic}"


@halo.llm(model="medium", max_tokens=320)
def finish(headed: str, text: str, contrasted: str, links: str) -> str:
    return (
        f"{SYSTEM}\nWrite the final text.\nHeadline: {headed}\nDraft: {text}\n"
        f"What sets it apart: {contrasted}\nLinks: {links}"
    )


@halo.workflow(name="long-chain")
def long_chain(title: str, database: str = "encyclopedia") -> str:
    """Write a new text about the subject of an article."""
    topic = choose_topic(title)
    word = {"keyword": topic.keyword}
    overview = look_up.named("overview")(database, OVERVIEW, {"title": topic.keyword})
    text = draft(outline(topic, overview, look_up.named("matches")(database, MATCHES, word)))
    siblings = look_up.named("same_subject")(database, SAME_SUBJECT, {"title": topic.keyword})
    contrasted = contrast(classify(title, look_up.named("categories")(database, CATEGORIES, word), siblings))
    links = pick_links(
        topic,
        look_up.named("links_out")(database, LINKS_OUT, word),
        look_up.named("links_in")(database, LINKS_IN, word),
    )
    return finish(headline(topic), text, contrasted, explain_links(links))
