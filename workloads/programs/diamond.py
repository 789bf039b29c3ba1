"""Diamond: a planner, three readers of a film catalogue, two hubs where their branches meet, a tail, the answer.

The shape of workload W1 of Halo (arXiv 2509.02121): 8 model calls on three models, 9 tools that need only the plan.
"""

from pydantic import BaseModel, Field

import halo
from workloads.programs.film_queries import (
    BY_COUNTRY,
    BY_KEYWORD,
    CREDITS,
    FOREIGN_TITLES,
    MOST_VOTED,
    ONE_FILM,
    PEOPLE,
    RENTALS,
    TOP_RATED,
)
from workloads.programs.sql_tools import look_up

SYSTEM = "You answer questions about films. Use only what the catalogue says."


class Search(BaseModel):
    """What to look for in the catalogue."""

    keyword: str = Field(max_length=30)
    genre: str = Field(max_length=20)
    first_year: int = Field(ge=1900, le=2030)
    last_year: int = Field(ge=1900, le=2030)


@halo.llm(model="small", max_tokens=128, output=Search)
def plan(question: str) -> list[halo.Message]:
    return [halo.system(SYSTEM), halo.user(f"Say what to look for in the catalogue.\nQuestion: {question}")]


@halo.llm(model="medium", max_tokens=192)
def read_films(question: str, matches: str, best: str, rented: str) -> str:
    return (
        f"{SYSTEM}\nName the films that matter, each with its reason.\nQuestion: {question}\n"
        f"Matches:\n{matches}\nBest rated:\n{best}\nMost rented:\n{rented}"
    )


@halo.llm(model="medium", max_tokens=192)
def read_people(question: str, people: str, credits: str) -> str:
    return (
        f"{SYSTEM}\nName the people who matter, and what they made.\nQuestion: {question}\n"
        f"People:\n{people}\nCredits:\n{credits}"
    )


@halo.llm(model="medium", max_tokens=192)
def read_titles(question: str, titles: str, countries: str) -> str:
    return (
        f"{SYSTEM}\nSay what the films are called in other countries.\nQuestion: {question}\n"
        f"Titles:\n{titles}\nFilms by country:\n{countries}"
    )


@halo.llm(model="medium", max_tokens=192)
def join_films_and_people(question: str, films: str, people: str) -> str:
    return f"{SYSTEM}\nBring films and people together.\nQuestion: {question}\nFilms: {films}\nPeople: {people}"


@halo.llm(model="large", max_tokens=192)
def add_titles(question: str, joined: str, titles: str, closest: str) -> str:
    return (
        f"{SYSTEM}\nAdd what the films are called elsewhere.\nQuestion: {question}\n"
        f"So far: {joined}\nTitles: {titles}\nClosest film:\n{closest}"
    )


@halo.llm(model="small", max_tokens=128)
def check(question: str, report: str, voted: str) -> str:
    return (
        f"{SYSTEM}\nName what the report gets wrong.\nQuestion: {question}\nMost voted for:\n{voted}\nReport: {report}"
    )


@halo.llm(model="large", max_tokens=256)
def answer(question: str, report: str, faults: str) -> str:
    return f"{SYSTEM}\nAnswer in one paragraph.\nQuestion: {question}\nReport: {report}\nFaults: {faults}"


@halo.workflow
def diamond(question: str, database: str = "films") -> str:
    """Answer a question about films from three sides."""
    search = plan(question)
    word, genre = search.keyword, search.genre
    years = {"first": search.first_year, "last": search.last_year}

    films = read_films(
        question,
        look_up.named("by_keyword")(database, BY_KEYWORD, {"keyword": word}),
        look_up.named("top_rated")(database, TOP_RATED, {"genre": genre}),
        look_up.named("rentals")(database, RENTALS, {"genre": genre, **years}),
    )
    people = read_people(
        question,
        look_up.named("people")(database, PEOPLE, {"keyword": word}),
        look_up.named("credits")(database, CREDITS, {"genre": genre, **years}),
    )
    titles = read_titles(
        question,
        look_up.named("foreign_titles")(database, FOREIGN_TITLES, {"keyword": word}),
        look_up.named("by_country")(database, BY_COUNTRY, {"genre": genre}),
    )
    joined = join_films_and_people(question, films, people)
    report = add_titles(question, joined, titles, look_up.named("one_film")(database, ONE_FILM, {"title": word}))
    faults = check(question, report, look_up.named("most_voted")(database, MOST_VOTED, {"genre": genre, **years}))
    return answer(question, report, faults)
