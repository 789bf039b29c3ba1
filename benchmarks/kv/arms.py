"""The arms of the ladder: how the engine is started, which rule it keeps KV by, and what the client tells it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from benchmarks.kv.hints import Telling, Words


@dataclass(frozen=True, slots=True)
class Flags:
    """What a careful operator would tune; the defaults are what vLLM serves with on a CPU."""

    max_running: int = 128
    step_tokens: int = 2048
    long_prefill_tokens: int = 0
    watermark: float = 0.0

    def __str__(self) -> str:
        return (
            f"--max-num-seqs {self.max_running} --max-num-batched-tokens {self.step_tokens}"
            f" --long-prefill-token-threshold {self.long_prefill_tokens} --watermark {self.watermark:g}"
        )


#: Each flag is tried by itself, in this order, and its best value kept for the next.
SWEPT: dict[str, Sequence[float]] = {
    "max_running": (8, 16, 32),
    "step_tokens": (1024, 4096, 8192),
    "watermark": (0.05,),
    "long_prefill_tokens": (512,),
}


def neighbours(flags: Flags, swept: str) -> Iterator[Flags]:
    """The flags with other values of one of them."""
    for value in SWEPT[swept]:
        other = replace(flags, **{swept: type(getattr(flags, swept))(value)})
        if other != flags:
            yield other


#: Settings of the plugin, as pairs.
Settings = tuple[tuple[str, str | bool], ...]


@dataclass(frozen=True, slots=True)
class Serving:
    """How the engine runs. `plugin` has the settings of `halo_vllm`; without it, the plugin is not loaded. With `door`,
    clients speak to Halo's OpenAI door in front of it."""

    flags: Flags = Flags()
    by_priority: bool = False
    plugin: Settings | None = None
    door: bool = False


UNTOLD = Telling()


@dataclass(frozen=True, slots=True)
class Arm:
    """`tuned` takes the best flags found, in place of vLLM's defaults."""

    name: str
    tuned: bool = True
    by_priority: bool = False
    plugin: Settings | None = None
    door: bool = False
    telling: Telling = UNTOLD

    def serving(self, tuned: Flags, stock: Flags) -> Serving:
        return Serving(tuned if self.tuned else stock, self.by_priority, self.plugin, self.door)


STOCK, TUNED, PRIORITY, PAPER, OURS, ORACLE = "stock", "tuned", "priority", "paper TTL", "ours", "oracle"
FIXED, AFTER, INFERRED, AGAIN = "fixed 2 s", "ours told after", "ours untold", "stock again"
DOOR = "door"

#: Continuum pins, and lets the latest pin go when nothing else can run; it knows only programs that name themselves.
#: With a rank in place of pins, any new program would take what it keeps.
CONTINUUM: Settings = (("admission", False), ("order", "youngest"), ("keep", "pin"), ("infer", False))

ARMS = {
    arm.name: arm
    for arm in (
        Arm(STOCK, tuned=False),
        Arm(TUNED),
        Arm(PRIORITY, by_priority=True, telling=Telling(priority=True)),
        Arm(DOOR, door=True, telling=Telling(Words.ID)),
        Arm(FIXED, plugin=(("rule", "fixed"), *CONTINUUM), telling=Telling(Words.TOOL)),
        Arm(PAPER, plugin=(("rule", "paper"), *CONTINUUM), telling=Telling(Words.TOOL)),
        Arm(OURS, plugin=(), telling=Telling(Words.TOOL)),
        Arm(AFTER, plugin=(), telling=Telling(Words.TOOL, after=True)),
        Arm(INFERRED, plugin=()),
        Arm(ORACLE, plugin=(("rule", "oracle"),), telling=Telling(Words.TRUTH)),
        Arm(AGAIN, tuned=False),
    )
}
#: What the ladder runs unless told; the others are asked for by name.
LADDER = tuple(name for name in ARMS if name not in (AFTER, DOOR))
