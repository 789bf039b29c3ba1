"""Programs to replay: turns of tokens and tool pauses, as values, for the real engine and for virtual time."""

from dataclasses import dataclass
from functools import lru_cache
from random import Random

#: Token ids below are the tokenizer's own signs (padding, begin, end); the model of `make engine` has so many ids.
FIRST_TOKEN, VOCABULARY = 3, 2048


@dataclass(frozen=True, slots=True)
class Turn:
    """`new_tokens` join the context, `output_tokens` are generated, then `tool` takes `pause_s`.

    The last turn of a program has no tool and no pause. Elsewhere a pause without a tool is a person who reads and
    writes.
    """

    new_tokens: int
    output_tokens: int
    tool: str | None = None
    argument_class: str = ""
    pause_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Program:
    """One agent's run. The first `shared_tokens` of its first turn are those of every program with that `shared`."""

    id: str
    turns: tuple[Turn, ...]
    shared: str = ""
    shared_tokens: int = 0
    #: Whether it tells who it is and which tool it called, where an arm has it told.
    hinted: bool = True

    @property
    def final_tokens(self) -> int:
        """The context when its last answer is complete."""
        return sum(turn.new_tokens + turn.output_tokens for turn in self.turns)

    @property
    def pauses_s(self) -> float:
        return sum(turn.pause_s for turn in self.turns)

    @property
    def least_prefill_tokens(self) -> int:
        """What an engine must compute of its prompts if it never loses its KV and shares nothing."""
        return sum(turn.new_tokens for turn in self.turns)


@dataclass(frozen=True, slots=True)
class Load:
    """When programs start: at `arrivals_s`, `per_s` of them a second; or, without arrivals, so that `at_once` are in
    progress at any time."""

    programs: tuple[Program, ...]
    arrivals_s: tuple[float, ...] | None = None
    per_s: float = 0.0
    at_once: int = 0

    def __post_init__(self) -> None:
        assert (self.arrivals_s is None) == (self.at_once > 0), "either arrivals or so many at once"
        assert self.arrivals_s is None or len(self.arrivals_s) == len(self.programs)


def open_loop(programs: tuple[Program, ...], per_s: float, seed: int) -> Load:
    """Poisson arrivals at that rate; one seed gives the same arrivals at every rate, only closer together."""
    random, at_s, arrivals_s = Random(f"arrivals {seed}"), 0.0, []
    for _ in programs:
        arrivals_s.append(at_s / per_s)
        at_s += random.expovariate(1.0)
    return Load(programs, tuple(arrivals_s), per_s=per_s)


def closed_loop(programs: tuple[Program, ...], at_once: int) -> Load:
    """A new program starts when one is done."""
    return Load(programs, at_once=min(at_once, len(programs)))


def new_token_ids(program: Program, turn: int, salt: str) -> list[int]:
    """What joins the context at that turn. The same for the same `salt`; of another salt nothing is shared."""
    wanted = program.turns[turn].new_tokens
    if turn > 0 or not program.shared_tokens:
        return list(_tokens(f"{salt} {program.id} {turn}", wanted))
    own = wanted - program.shared_tokens
    return [*_tokens(f"{salt} {program.shared}", program.shared_tokens), *_tokens(f"{salt} {program.id}", own)]


@lru_cache(maxsize=4096)
def _tokens(seed: str, count: int) -> tuple[int, ...]:
    return tuple(Random(seed).choices(range(FIRST_TOKEN, VOCABULARY), k=count))
