"""Map-reduce: seven experts answer the same question from their own point of view, one summary is made of them.

The shape of the MapRed workload of Helium (arXiv 2603.16104): 8 model calls, no tool.
"""

import halo

EXPERTS = ("auditor", "banker", "economist", "lawyer", "engineer", "historian", "teacher")


@halo.llm(model="general", max_tokens=160)
def consult(context: str, question: str, expert: str) -> list[halo.Message]:
    return [
        halo.system("You answer questions about a company's figures. Use only the figures given."),
        halo.user(f"{context}\nQuestion: {question}\nAnswer as {expert} in three sentences."),
    ]


@halo.llm(model="general", max_tokens=192)
def summarise(question: str, answers: list[str]) -> str:
    return f"Make one answer of these.\nQuestion: {question}\nAnswers: {answers}"


@halo.workflow(name="map-reduce")
def map_reduce(context: str, question: str) -> str:
    """Answer a question about a company's figures by asking many experts."""
    answers = halo.join([consult(context, question, expert) for expert in EXPERTS], name="answers")
    return summarise(question, answers)
