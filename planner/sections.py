"""What EXPLAIN says of shared prefixes and of placement, as lines of text."""

from collections.abc import Iterator, Sequence

from planner.placement.placement import Placement, StagePlacement
from planner.prefix.saving import PrefixSaving
from planner.text_tables import aligned, percent, three_digits, whole

_PREFIX_HEADINGS = ("model", "calls", "prompt tokens", "optimum", "planned", "arrival order", "groups", "")
_PLACEMENT_HEADINGS = ("stage", "runs on", "calls", "work s", "from s", "to s", "")


def prefix_lines(savings: Sequence[PrefixSaving]) -> Iterator[str]:
    """Per model: what the best cache saves, what the planned order does, and what the order of the rows would."""
    if savings:
        yield "prompt tokens found in a prefix cache: at best, in the planned order, and (LRU) in the order of the rows"
        yield from aligned([_PREFIX_HEADINGS, *map(prefix_cells, savings)], first_figure=1)


def prefix_cells(saving: PrefixSaving) -> tuple[str, ...]:
    shares = (saving.optimum_tokens, saving.planned_tokens, saving.arrival_tokens)
    room = "KV room not known" if saving.kv_tokens is None else f"{whole(saving.kv_tokens)} tokens of KV"
    return (
        saving.model,
        whole(saving.calls),
        whole(saving.prompt_tokens),
        *(f"{whole(tokens)} ({percent(saving.share(tokens))})" for tokens in shares),
        whole(saving.groups),
        f"{room}, by {saving.counted}",
    )


def placement_lines(placement: Placement | None) -> Iterator[str]:
    if placement is None:
        return
    yield makespan_line(placement)
    yield from aligned([_PLACEMENT_HEADINGS, *map(placement_cells, placement.stages)], first_figure=2)
    for switch in placement.switches:
        evicted = f", giving up {', '.join(switch.evicts)}" if switch.evicts else ""
        begins = three_digits(switch.at_s)
        yield f"  {switch.engine} loads {switch.model} at {begins} s for {three_digits(switch.seconds)} s{evicted}"
    for path in placement.unplaced:
        yield f"  {path} is not placed: nobody serves its model"


def makespan_line(placement: Placement) -> str:
    return (
        f"placement (estimate): makespan {three_digits(placement.makespan_s)} s;"
        f" no schedule is below {three_digits(placement.bound_s)} s, the gap is {percent(placement.gap)}"
    )


def placement_cells(stage: StagePlacement) -> tuple[str, ...]:
    seconds = map(three_digits, (stage.work_s, stage.starts_s, stage.ends_s))
    return (stage.path, shares_text(stage), whole(stage.calls), *seconds, stage.reason)


def shares_text(stage: StagePlacement) -> str:
    """The engines with the largest shares; of many, the first three."""
    if len(stage.shares) == 1:
        return stage.shares[0].engine
    largest = sorted(stage.shares, key=lambda share: -share.share)
    told = ", ".join(f"{share.engine} {share.share:.0%}" for share in largest[:3])
    return told if len(largest) <= 3 else f"{told}, {len(largest) - 3} more"
