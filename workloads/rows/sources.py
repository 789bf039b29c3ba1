"""What the workflows are asked: one source for each kind of input, and which workflow takes which."""

from itertools import product

from halo.sdk.errors import HaloError
from workloads.databases import encyclopedia, films, wholesale
from workloads.rows.draw_rows import Row, RowSource
from workloads.text2sql.sample_databases.words import Draw


class WorkflowUnknown(HaloError):
    """There are no rows for a workflow of that name."""


def source_of(workflow: str) -> RowSource:
    """Raises `WorkflowUnknown`, naming those there are."""
    source = SOURCES.get(workflow)
    if source is None:
        raise WorkflowUnknown(f"there are no rows for {workflow!r}; there are for: {', '.join(SOURCES)}")
    return source


FILM_QUESTIONS = (
    "Which {genre} films from {country} made since {year} are worth seeing?",
    "Who shaped {genre} films in {country} after {year}?",
    "Are {genre} films from {country} better since {year}?",
    "What should a newcomer to {genre} films from {country} see, made after {year}?",
)
SINCE_YEARS = films.YEARS[::8]
FILM_PARTS = tuple(product(FILM_QUESTIONS, films.GENRES, films.COUNTRIES, SINCE_YEARS))


def _film_question(number: int) -> Row:
    question, genre, country, year = FILM_PARTS[number]
    return {"question": question.format(genre=genre.lower(), country=country, year=year)}


def _article_title(number: int) -> Row:
    return {"title": encyclopedia.TITLES[number]}


REQUEST_PARTS = tuple(product(wholesale.REGIONS, wholesale.SEGMENTS, wholesale.YEARS, wholesale.BRANDS))


def _trade_request(number: int) -> Row:
    region, segment, year, brand = REQUEST_PARTS[number]
    return {"request": f"region={region.replace(' ', '_')} segment={segment} year={year} brand={brand}"}


FIGURES = ("revenue", "cost of sales", "staff costs", "research", "interest", "tax")
FIGURE_QUESTIONS = (
    "By how much did revenue change from the first year to the last?",
    "In which year were staff costs highest?",
    "What share of revenue went into research in the last year?",
    "Did tax grow faster than revenue?",
    "What was the profit before tax in each year?",
    "Which cost should be watched most closely?",
)
COMPANIES = 500


def _figures_question(number: int) -> Row:
    """Six questions about each company: their rows share the context."""
    company, question = divmod(number, len(FIGURE_QUESTIONS))
    return {"context": _annual_report(company), "question": FIGURE_QUESTIONS[question]}


def _annual_report(company: int) -> str:
    """A table of a company's figures, in thousands."""
    draw = Draw(company)
    years = range(draw.between(2014, 2019), 2023)
    size = draw.between(200, 90_000)
    lines = [
        " | ".join([figure, *(f"{round(size * share * draw.between(80, 120) / 100):,}" for _ in years)])
        for figure, share in zip(FIGURES, (1.0, 0.4, 0.2, 0.08, 0.02, 0.06), strict=True)
    ]
    heading = " | ".join(["in thousands", *map(str, years)])
    return "\n".join([f"Annual report of company {company + 1}", heading, *lines])


ITEMS = 2000
GOODS = ("kettle", "tent", "lamp", "backpack", "stove", "jacket", "radio", "chair", "bicycle pump", "blanket")
PRAISE = ("well made", "light", "easy to clean", "quick to set up", "cheap for what it is", "quiet", "warm")
BLAME = ("came scratched", "is smaller than it looks", "smells", "broke in a month", "has a thin manual", "is heavy")
PARTS, REVIEWS_A_PART = 6, 10


def _item_reviews(number: int) -> Row:
    draw = Draw(number)
    item = f"the {draw.one(GOODS)} no. {number + 1}"
    return {"item": item, "reviews": ["\n".join(_review(draw) for _ in range(REVIEWS_A_PART)) for _ in range(PARTS)]}


def _review(draw: Draw) -> str:
    return f"{draw.between(1, 5)} stars: it is {draw.one(PRAISE)}, but {draw.one(BLAME)}."


FILM_QUESTION_ROWS = RowSource(len(FILM_PARTS), _film_question)
ARTICLE_ROWS = RowSource(len(encyclopedia.TITLES), _article_title)
REQUEST_ROWS = RowSource(len(REQUEST_PARTS), _trade_request)
FIGURES_ROWS = RowSource(COMPANIES * len(FIGURE_QUESTIONS), _figures_question)
REVIEW_ROWS = RowSource(ITEMS, _item_reviews)

#: By the workflow's name.
SOURCES = {
    "diamond": FILM_QUESTION_ROWS,
    "triple-chain": FILM_QUESTION_ROWS,
    "long-chain": ARTICLE_ROWS,
    "bridge": ARTICLE_ROWS,
    "trident": REQUEST_ROWS,
    "fan-out": REQUEST_ROWS,
    "map-reduce": FIGURES_ROWS,
    "debate": FIGURES_ROWS,
    "reflection": FIGURES_ROWS,
    "iterative": REVIEW_ROWS,
    "investigation": FILM_QUESTION_ROWS,
    "revision": FIGURES_ROWS,
}
