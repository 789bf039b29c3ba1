"""Which requests come, and when: recorded ones where they are at hand, and seeded ones of our own with the published
lengths. Arrivals are Poisson."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from benchmarks.scheduling.lengths import (
    CANDIDATE_TEMPLATES,
    FINANCIAL,
    FORMULA1,
    REVISE_TEMPLATE,
    REVISION_TAIL,
    Database,
)
from benchmarks.scheduling.requests import Call, Request, Step, request_of

_CANDIDATE = "generate_candidate_llama-agent"
_OVERLOADED = ("trace1", "trace2", "trace3")
_NATURAL = ("financial", "formula1")


@dataclass(frozen=True, slots=True)
class Arriving:
    """`at` is seconds from the beginning. The request may take `patience` times as long as others."""

    at: float
    request: Request
    patience: float = 1.0


#: `count` requests by a generator.
Draw = Callable[[int, Random], list[Request]]


def traces_in(folder: Path | None) -> dict[str, Draw]:
    """What can be drawn, by name: our own always, the recorded ones where `folder` has their file.

    `trace1` to `trace3` come in their recorded order, round and round; the others are drawn at random. `natural` holds
    both databases as they come, `revised` has every number of revisions from none to ten alike.
    """
    own: dict[str, Draw] = {"own natural": _own_natural, "own revised": _own_revised}
    path = folder / "requests.jsonl" if folder else None
    if path is None or not path.is_file():
        return own
    recorded = _recorded(path)
    return own | {
        **{name: _in_order(recorded[name]) for name in _OVERLOADED},
        **{name: _at_random(recorded[name]) for name in _NATURAL},
        "natural": _at_random([request for name in _NATURAL for request in recorded[name]]),
    }


def poisson(requests: Sequence[Request], per_s: float, random: Random) -> list[Arriving]:
    """The requests in their order, `per_s` of them a second on average."""
    at, arriving = 0.0, []
    for request in requests:
        at += random.expovariate(per_s)
        arriving.append(Arriving(at, request))
    return arriving


def _recorded(path: Path) -> Mapping[str, list[Request]]:
    """By the name of the file each request was seen in, in the order seen there."""
    seen: dict[str, list[tuple[int, Request]]] = {}
    for line in path.read_text().splitlines():
        record = json.loads(line)
        request = request_of([_call(*step) for step in record["steps"]])
        for name, index in record["seen_in"]:
            seen.setdefault(name, []).append((index, request))
    return {name: [request for _, request in sorted(found, key=lambda one: one[0])] for name, found in seen.items()}


def _call(name: str, prompt_tokens: int, output_tokens: int) -> Call:
    return Call(Step.CANDIDATE if name == _CANDIDATE else Step(name), prompt_tokens, output_tokens)


def _in_order(requests: Sequence[Request]) -> Draw:
    return lambda count, _: [requests[index % len(requests)] for index in range(count)]


def _at_random(requests: Sequence[Request]) -> Draw:
    return lambda count, random: random.choices(requests, k=count)


def _own_natural(count: int, random: Random) -> list[Request]:
    return [_drawn(_database(random), None, random) for _ in range(count)]


def _own_revised(count: int, random: Random) -> list[Request]:
    return [_drawn(_database(random), random.randint(0, 10), random) for _ in range(count)]


def _database(random: Random) -> Database:
    """Three in four requests are on the database that has three in four of those recorded."""
    return FINANCIAL if random.random() < 0.75 else FORMULA1


def _drawn(database: Database, revisions: int | None, random: Random) -> Request:
    """A request on that database; without a number of revisions, as many as are usual there."""
    schema = database.schema.draw(random)
    if revisions is None:
        revisions = database.revisions.draw(random) if random.random() < database.revised else 0
    answers = database.answers

    def plain(step: Step, times: int) -> tuple[Call, ...]:
        return tuple(Call(step, database.prompts[step].draw(random), answers[step].draw(random)) for _ in range(times))

    return Request(
        retriever=plain(Step.RETRIEVER, 4),
        keywords=plain(Step.KEYWORDS, int(random.random() < database.keywords)),
        candidates=tuple(
            Call(Step.CANDIDATE, template + schema, answers[Step.CANDIDATE].draw(random))
            for template in CANDIDATE_TEMPLATES
        ),
        revisions=tuple(
            Call(Step.REVISE, REVISE_TEMPLATE + schema + REVISION_TAIL.draw(random), answers[Step.REVISE].draw(random))
            for _ in range(revisions)
        ),
        tester=plain(Step.TESTER, 3),
        unit_tests=plain(Step.UNIT_TEST, int(random.random() < database.unit_tests)),
        evaluations=plain(Step.EVALUATE, random.choice(database.evaluations)),
    )
