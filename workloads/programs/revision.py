"""Revision: an answer is judged and written again until the judge is content; most rows end early.

No published workload has this: there a loop is unrolled, and every row pays for all its rounds.
"""

from typing import Any

from pydantic import BaseModel, Field

import halo

ROUNDS = 4
SYSTEM = "You answer questions about a company's figures. Use only the figures given."


class Verdict(BaseModel):
    """Whether an answer may go out, and if not, what to change."""

    sound: bool
    change: str = Field(max_length=200)


class Revised(BaseModel):
    """The last answer, and what the judge said of it."""

    answer: str
    verdict: Verdict


@halo.llm(model="small", max_tokens=192)
def answer(context: str, question: str) -> str:
    return f"{SYSTEM}\n{context}\nQuestion: {question}\nAnswer in one paragraph."


@halo.llm(model="large", max_tokens=128, output=Verdict)
def judge(context: str, question: str, given: str) -> str:
    return f"{SYSTEM}\n{context}\nQuestion: {question}\nIs this answer sound? {given}"


@halo.llm(model="small", max_tokens=192)
def answer_again(context: str, question: str, given: str, change: str) -> str:
    return f"{SYSTEM}\n{context}\nQuestion: {question}\nYou answered: {given}\nChange this: {change}\nAnswer again."


@halo.workflow
def revision(context: str, question: str) -> Revised:
    """Answer a question about a company's figures until a judge is content, at most four times over."""

    def judged(given: str) -> Any:
        return {"answer": given, "verdict": judge(context, question, given)}

    def revise(state: Any) -> Any:
        return judged(answer_again(context, question, state["answer"], state["verdict"]["change"]))

    first = judged(answer(context, question))
    revised: Revised = halo.loop(revise, first, until=lambda state: state["verdict"]["sound"], max_rounds=ROUNDS)
    return revised
