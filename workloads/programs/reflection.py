"""Reflection: an expert answers, two critics read it side by side, the expert answers again.

The shape of the Reflect workload of Helium (arXiv 2603.16104): 4 model calls, no tool.
"""

import halo

SYSTEM = "You answer questions about a company's figures. Use only the figures given."


@halo.llm(model="general", max_tokens=192)
def answer(context: str, question: str) -> str:
    return f"{SYSTEM}\n{context}\nQuestion: {question}\nAnswer, and show how you calculate."


@halo.llm(model="general", max_tokens=128)
def check_figures(context: str, question: str, first: str) -> str:
    return f"{SYSTEM}\n{context}\nQuestion: {question}\nCheck the figures and sums of this answer: {first}"


@halo.llm(model="general", max_tokens=128)
def check_sense(context: str, question: str, first: str) -> str:
    return f"{SYSTEM}\n{context}\nQuestion: {question}\nDoes this answer what is asked? {first}"


@halo.llm(model="general", max_tokens=192)
def answer_again(context: str, question: str, first: str, figures: str, sense: str) -> str:
    return (
        f"{SYSTEM}\n{context}\nQuestion: {question}\nYou answered: {first}\n"
        f"On the figures: {figures}\nOn the sense: {sense}\nAnswer again."
    )


@halo.workflow
def reflection(context: str, question: str) -> str:
    """Answer a question about a company's figures, and mend the answer once."""
    first = answer(context, question)
    figures, sense = check_figures(context, question, first), check_sense(context, question, first)
    return answer_again(context, question, first, figures, sense)
