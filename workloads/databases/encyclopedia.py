"""An encyclopedia: articles about invented places, the categories they are in, and the articles they name."""

from workloads.text2sql.sample_databases.words import Draw, Tables

SCHEMA = """
CREATE TABLE article (
  article_id INTEGER PRIMARY KEY, title TEXT NOT NULL UNIQUE, subject TEXT NOT NULL, place TEXT NOT NULL,
  text TEXT NOT NULL
);
CREATE TABLE category (category_id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE article_category (
  article_id INTEGER NOT NULL REFERENCES article (article_id),
  category_id INTEGER NOT NULL REFERENCES category (category_id), PRIMARY KEY (article_id, category_id)
);
CREATE TABLE link (
  from_id INTEGER NOT NULL REFERENCES article (article_id), to_id INTEGER NOT NULL REFERENCES article (article_id),
  PRIMARY KEY (from_id, to_id)
);
CREATE INDEX link_by_target ON link (to_id);
CREATE INDEX article_by_category ON article_category (category_id);
"""

SUBJECTS = """
    Harbour Market Bridge Library Lighthouse Railway Observatory Theatre Canal Cathedral Festival Museum Garden
    Shipyard Orchestra Fortress Mill Quarry Aqueduct Brewery
""".split()  # noqa: SIM905 - a paragraph of words is easier to read and to mend than a list of strings
BEGINNINGS = ("Lark", "Mill", "Stone", "East", "Gray", "Thorn", "Ash", "Wolf", "Clear", "Bright", "Marsh", "North")
ENDINGS = ("field", "brook", "haven", "mere", "water", "wick", "ford", "gate", "stead", "cliff")
PLACES = tuple(beginning + ending for beginning in BEGINNINGS for ending in ENDINGS)
TITLES = tuple(f"{subject} of {place}" for subject in SUBJECTS for place in PLACES)
CENTURIES = ("16th", "17th", "18th", "19th", "20th")
CAUSES = ("a flood", "a fire", "a long war", "a change of trade routes", "a generous bequest", "a new railway")
EFFECTS = ("was rebuilt", "was moved across the river", "lost its roof", "doubled in size", "was closed for a decade")
KINDS = tuple(f"{subject} buildings" for subject in SUBJECTS) + tuple(f"{century} century" for century in CENTURIES)
LINKS = 4


def rows(draw: Draw, scale: int) -> Tables:
    """2,400 articles; `scale` says how many sentences each has beyond the first, and so how many bytes."""
    numbers = range(1, len(TITLES) + 1)
    centuries = [draw.below(len(CENTURIES)) for _ in numbers]
    return {
        "article": [
            (n, title, *title.split(" of "), _text(draw, title, CENTURIES[century], 3 * scale))
            for n, title, century in zip(numbers, TITLES, centuries, strict=True)
        ],
        "category": [(n, name) for n, name in enumerate(KINDS, 1)],
        "article_category": [
            (n, category)
            for n, century in zip(numbers, centuries, strict=True)
            for category in ((n - 1) // len(PLACES) + 1, len(SUBJECTS) + century + 1)
        ],
        "link": [(n, target) for n in numbers for target in draw.some(range(1, 101), LINKS) if target != n],
    }


def _text(draw: Draw, title: str, century: str, sentences: int) -> str:
    opening = f"The {title} dates from the {century} century."
    later = (
        f"After {draw.one(CAUSES)} in {draw.between(1600, 1990)} it {draw.one(EFFECTS)}, as its keeper then wrote."
        for _ in range(sentences)
    )
    return " ".join((opening, *later))
