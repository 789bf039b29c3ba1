"""A workflow whose every step is fixed: two greedy calls, and a pure tool with a version."""

import halo


@halo.llm(model="test-model", max_tokens=24)
def draft(text: str) -> str:
    return f"Draft something about {text}"


@halo.llm(model="test-model", max_tokens=24)
def polish(text: str) -> str:
    return f"Polish this: {text}"


@halo.tool(effect="pure", version="1")
def shout(text: str) -> str:
    return text.upper()


@halo.workflow
def flow(text: str) -> str:
    return shout(polish(draft(text)))
