"""Trials of an engine: which calls are made of it beside and after each other, and what a profile says they take.

A trial is a set of streams that run beside each other; the calls of a stream follow one upon the other. One call alone
is a trial, and so are 16 at once, and 8 clients that each ask three times.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count

from executor.engines.model.engine import EngineModel
from executor.engines.port import Usage
from planner.cost.profile import Profile

#: Long enough for an engine to be as cold as it gets.
_REST_S = 0.15


@dataclass(frozen=True, slots=True)
class Ask:
    """A call as it is wanted, `rest_s` after the one before it was answered. `shared_tokens` of its prompt are those of
    all calls of its trial that share any."""

    prompt_tokens: int
    output_tokens: int
    shared_tokens: int = 0
    rest_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Trial:
    """`held_out` ones are not fitted on: they tell the error."""

    name: str
    streams: tuple[tuple[Ask, ...], ...]
    held_out: bool = False

    @property
    def rests_s(self) -> float:
        """Of the stream that rests longest."""
        return max(sum(ask.rest_s for ask in stream) for stream in self.streams)


@dataclass(frozen=True, slots=True)
class TrialRun:
    """A trial as it went: what the engine says of each call, stream by stream, and how long it took in all but for the
    trial's rests.

    `characters` are those of each call's prompt, so that the lengths of texts can be learnt too.
    """

    trial: Trial
    streams: tuple[tuple[Usage, ...], ...]
    characters: tuple[tuple[int, ...], ...]
    seconds: float

    @property
    def shared_tokens(self) -> int:
        """How much of what could be shared the engine did share."""
        return max(usage.cached_tokens for stream in self.streams for usage in stream)


def trials_for(context_tokens: int, max_running: int) -> tuple[Trial, ...]:
    """What tells the coefficients apart within a minute or two: prompts of many lengths, bursts, decoding beside each
    other and over long contexts, cached prefixes, calls after rests, and mixtures of all; some are held out."""
    most, many = context_tokens // 2, min(64, max_running)
    alone = [tokens for tokens in (64, 256, 1024, 2048, 4096, 8192) if tokens <= most]
    long, prefix = min(2048, most), min(1499, most // 2)  # no multiple of a block: what is cached tells its size
    return (
        *(Trial(f"prompt of {tokens}", _beside(1, Ask(tokens, 1))) for tokens in alone),
        *(Trial(f"{calls} short calls at once", _beside(calls, Ask(48, 1))) for calls in _up_to(many, 4, 16, 64)),
        *(Trial(f"{calls} write 64", _beside(calls, Ask(48, 64))) for calls in _up_to(many, 1, 4, 16, 64)),
        Trial("4 write over long prompts", _beside(min(4, many), Ask(long, 48))),
        Trial("16 write over prompts of their own", _beside(min(16, many), Ask(min(600, most), 48))),
        Trial("16 read behind a shared prefix", _beside(min(16, many), *2 * (Ask(prefix + 128, 1, prefix),))),
        Trial("many write over a shared prefix", _beside(many, Ask(prefix // 2 + 32, 32, prefix // 2))),
        Trial("one asks 6 times", (6 * (Ask(64, 4),),)),
        Trial("one asks 8 times after rests", (8 * (Ask(64, 8, rest_s=_REST_S),),)),
        Trial("4 ask 4 times", _beside(min(4, many), *4 * (Ask(128, 8),))),
        Trial("16 ask 3 times", _beside(min(16, many), *3 * (Ask(200, 16),))),
        Trial("64 ask twice", _beside(many, *2 * (Ask(160, 24),))),
        Trial("shared prefix, one after the other", (4 * (Ask(prefix + 64, 4, prefix),),)),
        Trial("one writes over a long prefix, 5 times", (5 * (Ask(2 * prefix + 64, 64, 2 * prefix),),)),
        Trial("shared prefix, 4 times 8", _beside(min(8, many), *4 * (Ask(prefix // 2 + 64, 8, prefix // 2),))),
        *_held_out(most, many),
    )


def _held_out(most: int, many: int) -> tuple[Trial, ...]:
    lengths = [tokens for tokens in (96, 700, 1500, 3000) if tokens <= most]
    mixed = tuple((Ask(tokens, 24), Ask(160, 40)) for tokens in lengths)
    return (
        Trial("unlike prompts, twice", mixed, held_out=True),
        Trial("8 ask twice", _beside(min(8, many), Ask(400, 32), Ask(90, 10)), held_out=True),
        Trial("24 short ones", _beside(min(24, many), Ask(150, 12)), held_out=True),
        Trial(
            "shared prefix of 512", _beside(min(6, many), *3 * (Ask(min(640, most), 16, min(512, most // 2)),)), True
        ),
    )


def _beside(streams: int, *asks: Ask) -> tuple[tuple[Ask, ...], ...]:
    return streams * (asks,)


def _up_to(most: int, *wanted: int) -> list[int]:
    return list(dict.fromkeys(min(calls, most) for calls in wanted))


def predicted_s(profile: Profile, run: TrialRun, max_running: int) -> float:
    """How long the modelled engine takes for what was really asked and answered."""
    return _Rehearsal(profile, run, max_running).seconds()


class _Rehearsal:
    """A trial played through once; calls are (stream, place)."""

    def __init__(self, profile: Profile, run: TrialRun, max_running: int) -> None:
        self._profile, self._run = profile, run
        self._engine: EngineModel[tuple[int, int]] = EngineModel(profile, max_running)
        blocks = run.shared_tokens // profile.block_tokens
        self._names = tuple(range(1, blocks + 1))
        self._due: list[tuple[float, int, tuple[int, int]]] = []
        self._order = count()

    def seconds(self) -> float:
        for stream in range(len(self._run.streams)):
            self._ask_after(0.0, (stream, 0))
        ended_at = 0.0
        while (now := self._next_at()) is not None:
            for finished in self._engine.advance(now):
                ended_at = finished.at + self._profile.round_trip_s
                stream, place = finished.id
                if place + 1 < len(self._run.streams[stream]):
                    self._ask_after(ended_at, (stream, place + 1))
            while self._due and self._due[0][0] <= now:
                self._submit(heappop(self._due)[2], now)
        return ended_at - self._run.trial.rests_s

    def _ask_after(self, answered_at: float, call: tuple[int, int]) -> None:
        rest_s = _ask(self._run.trial.streams, call).rest_s
        heappush(self._due, (answered_at + rest_s, next(self._order), call))

    def _next_at(self) -> float | None:
        instants = [at for at in (self._engine.next_at(), self._due[0][0] if self._due else None) if at is not None]
        return min(instants, default=None)

    def _submit(self, call: tuple[int, int], now: float) -> None:
        stream, place = call
        usage: Usage = self._run.streams[stream][place]
        shares = _ask(self._run.trial.streams, call).shared_tokens > 0
        names = self._names if shares else ()
        self._engine.submit(call, usage.prompt_tokens, max(1, usage.output_tokens), now, names)


def _ask(streams: Sequence[Sequence[Ask]], call: tuple[int, int]) -> Ask:
    return streams[call[0]][call[1]]
