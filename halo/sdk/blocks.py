"""Parts of a prompt whose order is free."""

from typing import cast

from halo.sdk.lower import lower
from halo.sdk.scope import current_scope
from halo.sdk.shapes import TEXT
from halo.sdk.symbolic import Symbolic
from halo.sdk.text import has_marks
from planner.ir.expressions import Blocks


def blocks(*texts: str, separator: str = "\n\n") -> str:
    """The texts with `separator` between them, in any order: say so where your prompt means the same in each.

        return halo.blocks(f"Question: {question}", f"Schema:\\n{schema}")

    A job then puts first what more of its rows have in common, here the schema, so that engines compute it once. Its
    rows are all asked in that order. A program that is run alone, or inline, is asked in the order as written.
    """
    scope = current_scope()
    if scope is None:
        return separator.join(texts)
    if has_marks(separator):
        scope.trace.report("the separator of halo.blocks is known only when the program runs", "give a plain text")
        separator = "\n\n"
    return cast(str, Symbolic(Blocks(tuple(lower(text, scope) for text in texts), separator), scope, TEXT))
