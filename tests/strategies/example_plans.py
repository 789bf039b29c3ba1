"""Plans written by hand that several tests look at."""

from planner.ir.expressions import Array, Column, Compare, Concat, Const, Expr, Field, Object, Output
from planner.ir.ids import StageId
from planner.ir.plan import (
    Agent,
    Binding,
    Body,
    Case,
    Choose,
    Effect,
    Fallback,
    Generate,
    Input,
    Join,
    Loop,
    Map,
    Message,
    Plan,
    Sampling,
    Tool,
    ToolSpec,
)

LOOKUP = ToolSpec("lookup", Effect.PURE, "The schema of a database.", {"type": "object"}, timeout_s=5.0)
RUN_SQL = ToolSpec("run_sql", description="Runs a SELECT.", concurrency=4)
SAMPLED = Sampling(temperature=0.8, max_tokens=200)


def output(stage: str, *path: str | int) -> Output:
    return Output(StageId(stage), path)


def user(*segments: Expr) -> tuple[Message, ...]:
    return (Message("user", Concat(segments)),)


def generate(stage: str, *segments: Expr, sampling: Sampling = Sampling(), model: str = "small") -> Generate:  # noqa: B008
    return Generate(StageId(stage), model, user(*segments), sampling)


def tool(stage: str, spec: ToolSpec, **arguments: Expr) -> Tool:
    return Tool(StageId(stage), spec, Object(tuple(Field(name, value) for name, value in arguments.items())))


def join(stage: str, value: Expr) -> Join:
    return Join(StageId(stage), value)


def text_to_sql() -> Plan:
    """Schema look-up, two sampled candidates, a run of each, a revision loop, and a note nobody reads."""
    db, question = Column("db"), Column("question")
    fix = Plan(
        "fix",
        (Input("state"), Input("question")),
        (
            generate("rewrite", Const("Fix this query: "), Column("state", ("sql",))),
            tool("again", RUN_SQL, sql=output("rewrite")),
        ),
        Object((Field("sql", output("rewrite")), Field("ok", output("again", "ok")))),
    )
    ask = (Const("Schema:\n"), output("schema"), Const("\nQuestion: "), question)
    return Plan(
        "text_to_sql",
        (Input("db", {"type": "string"}), Input("question"), Input("style", default=Fallback("ansi"))),
        (
            tool("schema", LOOKUP, db=db),
            tool("schema_again", LOOKUP, db=db),
            generate("note", Const("Summarise "), question),
            generate("link", *ask, Const("\nWhich tables?"), model="large"),
            generate("link_again", *ask, Const("\nWhich tables?"), model="large"),
            generate("first", *ask, output("link"), sampling=SAMPLED),
            generate("second", *ask, output("link_again"), sampling=SAMPLED),
            tool("run_first", RUN_SQL, sql=output("first")),
            Loop(
                StageId("revise"),
                Object((Field("sql", output("second")), Field("ok", Const(False)))),
                Compare("==", Column("state", ("ok",)), Const(True)),
                Body(fix, (Binding("question", question),)),
                3,
            ),
        ),
        Array((output("run_first"), output("revise", "sql"))),
    )


def every_kind() -> Plan:
    """One stage of each kind, with every option set at least once."""
    each = Plan("each", (Input("item"),), (generate("say", Column("item")),), output("say"))
    cheap = Plan("cheap", (Input("question"),), (), Column("question"))
    ask = Generate(
        StageId("ask"),
        "org/small-8b",
        (
            Message("system", Concat((Const("Be brief.\n"),))),
            Message("user", Concat((Column("question", ("text", 0)),))),
        ),
        Sampling(1.0, 0.9, 64, 7, ("\n",)),
        {"type": "object"},
        60.0,
        0,
        Fallback(None),
    )
    return Plan(
        "every kind",
        (Input("question"), Input("items", {"type": "array"}, Fallback([]))),
        (
            ask,
            tool("schema", LOOKUP, db=Const("shop")),
            Choose(
                StageId("route"),
                output("ask", "kind"),
                (Case("easy", Body(cheap, (Binding("question", Column("question")),))),),
                Body(Plan("none", (), (), Const(None))),
            ),
            Map(StageId("many"), Column("items"), Body(each), 20),
            Agent(StageId("solve"), "large", user(output("schema")), (LOOKUP, RUN_SQL), 5),
            join("all", Object((Field("route", output("route")), Field("odd name", output("many"))))),
        ),
        output("all"),
        "2",
    )
