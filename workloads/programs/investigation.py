"""Investigation: tools in the middle. What to look up next is said by a model that has read what was found before.

No published workload has this: there every tool needs only the root's answer, and could be started at once.
"""

from pydantic import BaseModel, Field

import halo
from workloads.programs.film_queries import BY_KEYWORD, CREDITS, ONE_FILM
from workloads.programs.sql_tools import look_up

SYSTEM = "You are a film historian with a catalogue. Use only what it says."


class Clue(BaseModel):
    """A word to search titles for."""

    keyword: str = Field(max_length=30)


class Suspect(BaseModel):
    """The film to look at closely."""

    title: str = Field(max_length=60)
    genre: str = Field(max_length=20)
    year: int = Field(ge=1900, le=2030)


@halo.llm(model="small", max_tokens=64, output=Clue)
def choose_clue(question: str) -> str:
    return f"{SYSTEM}\nChoose one word to search titles for.\nQuestion: {question}"


@halo.llm(model="small", max_tokens=96, output=Suspect)
def choose_film(question: str, matches: str) -> str:
    return f"{SYSTEM}\nChoose the film to look at closely.\nQuestion: {question}\nMatches:\n{matches}"


@halo.llm(model="large", max_tokens=192)
def describe_film(question: str, film: str) -> str:
    return f"{SYSTEM}\nSay what this film has to do with the question.\nQuestion: {question}\nFilm:\n{film}"


@halo.llm(model="large", max_tokens=256)
def conclude(question: str, description: str, people: str) -> str:
    return (
        f"{SYSTEM}\nAnswer in one paragraph.\nQuestion: {question}\nThe film: {description}\n"
        f"People of its time and genre:\n{people}"
    )


@halo.workflow
def investigation(question: str, database: str = "films") -> str:
    """Answer a question about films by following what is found."""
    matches = look_up.named("by_keyword")(database, BY_KEYWORD, {"keyword": choose_clue(question).keyword})
    film = choose_film(question, matches)
    description = describe_film(question, look_up.named("one_film")(database, ONE_FILM, {"title": film.title}))
    people = look_up.named("credits")(database, CREDITS, {"genre": film.genre, "first": film.year, "last": film.year})
    return conclude(question, description, people)
