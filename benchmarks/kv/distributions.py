"""What agents' turns and tools look like: read from recorded runs where they are at hand, else of our own making.

Everything here is in the tokens and seconds of the recorded runs; `traces` scales it.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp
from pathlib import Path
from random import Random
from typing import Any

CHARACTERS_PER_TOKEN = 4
#: Runs in which a tool printed more than any agent's limit say nothing of other runs.
LARGEST_GROWTH_TOKENS = 20_000
LONG_PAUSE_S = 60.0


@dataclass(frozen=True, slots=True)
class RecordedTurn:
    """`new_tokens` before the answer of `output_tokens`, which calls a tool of `argument_class`."""

    new_tokens: int
    output_tokens: int
    argument_class: str


@dataclass(frozen=True, slots=True)
class Talk:
    """A function-calling conversation: the tools' documents, then the functions it calls, one an answer."""

    documents: str
    document_tokens: int
    calls: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Distributions:
    """`pauses_s` by argument class, sorted; `long_pauses_s` are those above a minute. `source` is for people."""

    source: str
    runs: Sequence[Sequence[RecordedTurn]]
    pauses_s: Mapping[str, Sequence[float]]
    long_pauses_s: Sequence[float]
    talks: Sequence[Talk]
    searches: Sequence[int]


def distributions_in(folder: Path) -> Distributions:
    """From the recorded runs under `folder`, or our own where one of the sets is not there."""
    sets = ("swebench_miniswe_gemini3", "claude_code_tool_traces", "bfcl_v4")
    if not all((folder / name).is_dir() for name in sets):
        return own_distributions()
    runs_in, tools_in, talks_in = (folder / name for name in sets)
    pauses = _recorded_pauses(tools_in / "programs.jsonl")
    return Distributions(
        source="recorded runs",
        runs=tuple(tuple(_recorded_turns(record)) for record in _records(runs_in / "programs.jsonl")),
        pauses_s=pauses,
        long_pauses_s=sorted(pause for of_class in pauses.values() for pause in of_class if pause > LONG_PAUSE_S),
        talks=tuple(_recorded_talks(talks_in)),
        searches=tuple(record["num_hops"] for record in _records(talks_in / "possible_answer" / _SEARCHES)),
    )


_TALKS, _SEARCHES = "BFCL_v4_multi_turn_base.jsonl", "BFCL_v4_web_search.jsonl"


def _recorded_turns(record: Mapping[str, Any]) -> Iterator[RecordedTurn]:
    """A prompt grows by the answer before it and by what the tool said to that."""
    turns = record["turns"]
    grown = [turns[0]["prompt_tokens"]] + [
        after["prompt_tokens"] - before["prompt_tokens"] - _answer_tokens(before) for before, after in pairwise(turns)
    ]
    for turn, tokens in zip(turns, grown, strict=True):
        new_tokens = min(max(tokens, 1), LARGEST_GROWTH_TOKENS)
        yield RecordedTurn(new_tokens, _answer_tokens(turn), turn["tool_class"] or "shell_other")


def _answer_tokens(turn: Mapping[str, Any]) -> int:
    """What was thought is not sent again."""
    return max(1, int(turn["completion_tokens"]) - int(turn["reasoning_tokens"]))


def _recorded_pauses(path: Path) -> dict[str, list[float]]:
    """By argument class. Runs whose tools shared the engine's CPU are left out: they measured the engine."""
    found: dict[str, list[float]] = defaultdict(list)
    for record in _records(path):
        if "claude" in record["model"]:
            for tool in (tool for turn in record["turns"] for tool in turn["tools"]):
                found[tool["cls"]].append(max(0.0, float(tool["dur_s"])))
    return {name: sorted(pauses) for name, pauses in found.items()}


def _recorded_talks(folder: Path) -> Iterator[Talk]:
    documents = {path.stem: path.stat().st_size for path in (folder / "multi_turn_func_doc").glob("*.json")}
    answers = {record["id"]: record["ground_truth"] for record in _records(folder / "possible_answer" / _TALKS)}
    for record in _records(folder / _TALKS):
        names = sorted(_DOCUMENT_OF.get(name, "") for name in record["involved_classes"])
        characters = sum(documents.get(name, 0) for name in names)
        calls = tuple(call.partition("(")[0] for asked in answers[record["id"]] for call in [*asked, "answer"])
        yield Talk("+".join(names), characters // CHARACTERS_PER_TOKEN, calls)


_DOCUMENT_OF = {
    "GorillaFileSystem": "gorilla_file_system",
    "MathAPI": "math_api",
    "MessageAPI": "message_api",
    "TwitterAPI": "posting_api",
    "TicketAPI": "ticket_api",
    "TradingBot": "trading_bot",
    "TravelAPI": "travel_booking",
    "VehicleControlAPI": "vehicle_control",
}


def _records(path: Path) -> Iterator[dict[str, Any]]:
    with path.open() as lines:
        for line in lines:
            yield json.loads(line)


def own_distributions() -> Distributions:
    """Of our own making, with round numbers: like a coding agent, a function caller and a searcher; seeded."""
    random = Random("own distributions")
    pauses = {
        name: sorted(_lognormal(random, median, spread) for _ in range(200))
        for name, (_, median, spread) in _OWN_TOOLS.items()
    }
    return Distributions(
        source="own making",
        runs=tuple(tuple(_own_run(random)) for _ in range(100)),
        pauses_s=pauses,
        long_pauses_s=sorted(LONG_PAUSE_S * random.paretovariate(1.5) for _ in range(50)),
        talks=tuple(_own_talk(random) for _ in range(50)),
        searches=tuple(random.choices((2, 3, 4), k=50)),
    )


#: Argument class -> share of calls in per cent, median pause in seconds, spread of its logarithm.
_OWN_TOOLS = {
    "read_search": (60, 0.1, 1.0),
    "python": (15, 0.8, 0.8),
    "test": (10, 2.0, 1.2),
    "shell_other": (10, 0.3, 1.4),
    "git": (3, 0.2, 0.8),
    "install_build": (2, 3.0, 0.8),
}
_OWN_TALK_TOKENS, _OWN_TALK_SETS, _OWN_TALK_CALLS = 5000, 20, (4, 14)


def _own_run(random: Random) -> Iterator[RecordedTurn]:
    names, shares = list(_OWN_TOOLS), [share for share, _, _ in _OWN_TOOLS.values()]
    turns = max(8, round(_lognormal(random, 35, 0.4)))
    for number in range(turns):
        new_tokens = _lognormal(random, 1700, 0.3) if number == 0 else _lognormal(random, 200, 1.1)
        (name,) = random.choices(names, shares)
        yield RecordedTurn(round(new_tokens) + 1, round(_lognormal(random, 100, 1.1)) + 1, name)


def _own_talk(random: Random) -> Talk:
    calls = random.randint(*_OWN_TALK_CALLS)
    names = random.choices(("list", "read", "write", "search", "answer"), k=calls)
    return Talk(f"documents {random.randrange(_OWN_TALK_SETS)}", _OWN_TALK_TOKENS, tuple(names))


def _lognormal(random: Random, median: float, spread: float) -> float:
    return median * exp(random.gauss(0.0, spread))
