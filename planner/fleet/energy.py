"""What engines draw: a share of what their boards may draw at most, by what they do.

The shares are those of an H100, taken for all kinds: decoding one call draws 300 of its 700 W and decoding 128 draws
600 W (ML.ENERGY Benchmark v3.0), reading prompts draws nearly all of it (POLCA, arXiv 2308.12908, section 3), and
waiting with a model in its memory about 120 W, whatever the model's size (arXiv 2605.23918). Between one call and 128
the share grows with the logarithm. Hosts, networks and cooling come on top.
"""

from collections.abc import Sequence
from math import log2

from planner.cost.gpus import Gpu
from planner.fleet.kinds import EngineKind
from planner.fleet.mix_values import Mix
from planner.fleet.occupancy import Occupancy

WAITING, DECODING_ONE, DECODING_MANY, READING = 0.17, 0.43, 0.86, 1.0
_MANY = 128

ASSUMPTION = (
    "energy is of the GPUs alone, by shares of what the boards may draw: 17 % waiting, 43 to 86 % decoding one to 128"
    " calls, all of it reading prompts, as measured on an H100"
)


def board_watts(gpu: Gpu, prefill_busy: float, decode_busy: float, running: float) -> float:
    """On average, of one board: the shares of its time in which it reads and decodes, and how many calls it decodes."""
    many = min(1.0, log2(max(1.0, running)) / log2(_MANY))
    decoding = DECODING_ONE + (DECODING_MANY - DECODING_ONE) * many
    waiting = max(0.0, 1 - prefill_busy - decode_busy)
    return gpu.board_watts * (waiting * WAITING + prefill_busy * READING + decode_busy * decoding)


def engine_watts(kind: EngineKind, occupancy: Occupancy) -> float:
    """All boards of one engine: they work in step."""
    decode_busy = max(0.0, occupancy.busy - occupancy.prefill_busy)
    return kind.gpus * board_watts(kind.gpu, occupancy.prefill_busy, decode_busy, occupancy.running)


def mix_watts(mix: Mix) -> float:
    return sum(count * engine_watts(kind, Occupancy(kind, mix.for_each(kind))) for kind, count in mix.engines.items())


def unknown_boards(kinds: Sequence[EngineKind]) -> tuple[str, ...]:
    """The GPU kinds of which it is not known what they draw: they count as nothing."""
    return tuple(dict.fromkeys(kind.gpu.name for kind in kinds if not kind.gpu.board_watts))
