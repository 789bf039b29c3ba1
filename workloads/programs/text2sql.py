"""Text-to-SQL: read the schema, link it to the question, draft candidates, run each, repair what fails, vote.

The shape of CHESS (arXiv 2405.16755) and CHASE-SQL (arXiv 2410.01943): candidates at temperature, revision driven by
the database's own error, and self-consistency over what the queries return.
"""

from typing import Any

from pydantic import BaseModel, Field, create_model

import halo
from workloads.text2sql.databases import locate
from workloads.text2sql.equality import fingerprint
from workloads.text2sql.query import guarded_select
from workloads.text2sql.schema import read_schema, render_schema
from workloads.text2sql.vote import Ballot, elect, worth

MODEL = "sql"
CANDIDATES = 4
REPAIRS = 2
PREVIEW_ROWS = 5


class LinkedTable(BaseModel):
    table: str = Field(max_length=64)
    columns: list[str] = Field(max_length=24)


class Linking(BaseModel):
    """The part of the schema a question is about."""

    tables: list[LinkedTable] = Field(max_length=8)


class Draft(BaseModel):
    sql: str


class Outcome(BaseModel):
    """What a query did: enough to repair it and to vote, without carrying its rows about."""

    ok: bool
    error: str
    fingerprint: str
    worth: int
    rows: int
    preview: list[list[Any]]


class Answer(BaseModel):
    """The chosen query, how many of the candidates agreed with it, and the first of its rows."""

    sql: str
    ok: bool
    votes: int
    candidates: int
    rows: int
    preview: list[list[Any]]


@halo.tool(effect="pure", timeout="10s")
def describe_database(database: str) -> str:
    """The schema of a database, with a few values of each column."""
    return render_schema(read_schema(locate(database)))


NOT_RUN = Outcome(
    ok=False, error="the query took too long or too much memory", fingerprint="", worth=0, rows=0, preview=[]
)


@halo.tool(effect="pure", timeout="8s", isolated=True, memory_mb=512, fallback=NOT_RUN.model_dump())
def run_sql(database: str, sql: str) -> Outcome:
    """Run one SELECT, read-only, in a process that can be killed."""
    result = guarded_select(locate(database), sql)
    return Outcome(
        ok=result.error is None,
        error=f"{result.error.code}: {result.error.message}" if result.error else "",
        fingerprint=fingerprint(result)[:4096],
        worth=worth(result),
        rows=len(result.rows),
        preview=[list(row) for row in result.rows[:PREVIEW_ROWS]],
    )


@halo.tool(effect="pure")
def vote(candidates: list[dict[str, Any]]) -> Answer:
    """Choose among candidates by what they return."""
    outcomes = [Outcome.model_validate(candidate["outcome"]) for candidate in candidates]
    elected = elect([Ballot(outcome.fingerprint if outcome.ok else "error", outcome.worth) for outcome in outcomes])
    chosen = outcomes[elected.index]
    return Answer(
        sql=candidates[elected.index]["sql"],
        ok=chosen.ok,
        votes=elected.votes,
        candidates=elected.candidates,
        rows=chosen.rows,
        preview=chosen.preview,
    )


SYSTEM = "You answer questions about a SQLite database. Use only tables and columns of its schema."


def link_schema(schema: str, question: str, evidence: str) -> list[halo.Message]:
    return [
        halo.system(SYSTEM),
        halo.user(
            f"Schema:\n{schema}\n\nName the tables and columns this question needs.\n"
            f"Hint: {evidence}\nQuestion: {question}"
        ),
    ]


def draft_sql(schema: str, linking: Linking, question: str, evidence: str) -> list[halo.Message]:
    return [
        halo.system(SYSTEM),
        halo.user(
            f"Schema:\n{schema}\n\nWrite one SELECT that answers the question.\n"
            f"Hint: {evidence}\nRelevant: {linking}\nQuestion: {question}"
        ),
    ]


def repair_sql(schema: str, question: str, sql: str, error: str) -> list[halo.Message]:
    return [
        halo.system(SYSTEM),
        halo.user(
            f"Schema:\n{schema}\n\nThis query failed. Write one SELECT that answers the question and runs.\n"
            f"Question: {question}\nQuery: {sql}\nError: {error}"
        ),
    ]


def make_text2sql(
    *,
    model: str = MODEL,
    candidates: int = CANDIDATES,
    repairs: int = REPAIRS,
    max_tokens: int = 512,
    max_sql_characters: int = 1200,
) -> halo.Workflow[..., Answer]:
    """The pipeline with these numbers: candidates, repairs of each, and how long an answer may be."""
    draft_type = create_model("Draft", __base__=Draft, sql=(str, Field(max_length=max_sql_characters)))
    link = halo.llm(model=model, max_tokens=max_tokens, output=Linking, fallback={"tables": []})(link_schema)
    draft = halo.llm(model=model, max_tokens=max_tokens, output=draft_type, temperature=0.8, fallback={"sql": ""})(
        draft_sql
    )
    again = halo.llm(model=model, max_tokens=max_tokens, output=draft_type, fallback={"sql": ""})(repair_sql)

    @halo.workflow(name="text2sql")
    def text2sql(database: str, question: str, evidence: str = "") -> Answer:
        """Answer a question with SQL over one database."""
        schema = describe_database(database)
        linking = link(schema, question, evidence)

        def repair(state: Any) -> Any:
            sql: str = again(schema, question, state["sql"], state["outcome"]["error"]).sql
            return {"sql": sql, "outcome": run_sql(database, sql)}

        def candidate(number: int) -> Any:
            sql: str = draft.options(seed=number)(schema, linking, question, evidence).sql
            first: Any = {"sql": sql, "outcome": run_sql(database, sql)}
            return halo.loop(repair, first, until=lambda state: state["outcome"]["ok"], max_rounds=repairs)

        return vote([candidate(number) for number in range(candidates)])

    return text2sql


text2sql = make_text2sql()
