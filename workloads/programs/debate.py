"""Debate: three agents answer, then each answers again after it has read the others.

The shape of the Debate workload of Helium (arXiv 2603.16104): 3 agents x 2 rounds, 6 model calls, no tool.
"""

import halo

AGENTS = ("a cautious accountant", "a bold investor", "a patient regulator")
ROUNDS = 2


@halo.llm(model="general", max_tokens=160)
def open_debate(context: str, question: str, agent: str) -> str:
    return f"{context}\nQuestion: {question}\nYou are {agent}. Answer in three sentences."


@halo.llm(model="general", max_tokens=160)
def reply(context: str, question: str, agent: str, own: str, others: list[str]) -> str:
    return (
        f"{context}\nQuestion: {question}\nYou are {agent}. You said: {own}\nThe others said: {others}\n"
        "Answer again in three sentences; change your mind where they are right."
    )


@halo.workflow
def debate(context: str, question: str) -> list[str]:
    """What three agents say about a company's figures when they have heard each other."""
    said = [open_debate(context, question, agent) for agent in AGENTS]
    for _ in range(1, ROUNDS):
        said = [
            reply(context, question, agent, said[number], halo.join(said[:number] + said[number + 1 :], name="others"))
            for number, agent in enumerate(AGENTS)
        ]
    return said
