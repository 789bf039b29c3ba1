"""A closed loop of agents on one engine, and whether what is promised holds after each of its steps."""

import heapq
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass, field, fields, is_dataclass, replace
from itertools import count
from random import Random
from typing import Protocol

from benchmarks.kv.light_engine import TextCall
from benchmarks.kv.misuse import Agent, Misuse, agent_of, said_after_call, said_with_call
from halo_vllm.policy.admission import Limits
from halo_vllm.programs import Programs

LOOK_AGAIN_S = 0.05
#: Calls wait and nothing runs: longer than this, and nobody sees to it. The engine's own limit is `Settings.idle_s`.
LONGEST_IDLE_S = 5.0
#: Entries that a table may have, by what its own module writes down; of others so many for each agent at once.
WRITTEN = {
    "roster.programs": 65_536,
    "roster.conversations.calls": 65_536,
    "roster.conversations.ends": 2 * 65_536,
    "keeping.learnt.durations.open": 200_000,
    "keeping.learnt.durations.cohorts": 1_024,
    "keeping.learnt.turns.counts": 512,
    "roster.trust.open": 4_096,
    "ledger.owners": 1 << 20,
}
ENTRIES_AN_AGENT = 64
SAMPLED_EVERY = 256


class Served(Protocol):
    """An engine with the plugin at work; times are virtual."""

    now_s: float
    capacity_blocks: int

    @property
    def programs(self) -> Programs: ...
    @property
    def busy(self) -> bool: ...
    @property
    def kept_blocks(self) -> int: ...
    def ask(self, call: TextCall) -> None: ...
    def abort(self, call_id: str) -> None: ...
    def hint(self, hint: Mapping[str, object]) -> None: ...
    def reset(self) -> bool: ...
    def step(self) -> list[str] | None: ...


@dataclass(frozen=True, slots=True)
class Traffic:
    """`at_once` agents, each followed by another when it is over. `honest`: they ask for the same and tell the truth:
    an agent whose tool would never return, or who would give up, says that the call before that was its last."""

    programs: int
    at_once: int = 16
    seed: int = 1
    honest: bool = False


@dataclass(slots=True)
class Seen:
    """What a run came to, and the worst of what is promised. `tables`: the most entries each of the plugin's had.

    Of a real engine: `held_s` is the longest that a call took in all, `idle_s` the longest in which calls were open and
    none ended, `refused` those of liars that were not taken; `counters` are the plugin's.
    """

    programs: int = 0
    calls: int = 0
    lasted_s: float = 0.0
    held_s: float = 0.0
    of_bound: float = 0.0
    idle_s: float = 0.0
    kept_share: float = 0.0
    refused: int = 0
    counters: dict[str, float] = field(default_factory=dict)
    tables: dict[str, int] = field(default_factory=dict)
    problems: dict[str, tuple[str, int]] = field(default_factory=dict)

    @property
    def calls_per_s(self) -> float:
        return self.calls / self.lasted_s

    def problem(self, kind: str, told: str) -> None:
        """The first of each kind is told, and how many there were."""
        first, times = self.problems.get(kind, (told, 0))
        self.problems[kind] = (first, times + 1)


def run(traffic: Traffic, misuse: Misuse, engine: Served) -> Seen:
    """Runs every agent to its end, or to where nobody gets on any more."""
    return _Run(traffic, misuse, engine).run()


@dataclass(slots=True)
class _Agent:
    agent: Agent
    turn: int = 0


class _Run:
    def __init__(self, traffic: Traffic, misuse: Misuse, engine: Served) -> None:
        self._traffic, self._misuse, self._engine = traffic, misuse, engine
        self._draw = Random(f"{traffic.seed}/lies")
        self._later = iter(range(traffic.programs))
        self._asked: dict[str, _Agent] = {}
        self._held: dict[str, tuple[float, int]] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._steps = 0
        self._idle_since_s: float | None = None
        self._seen = Seen()

    def run(self) -> Seen:
        for _ in range(self._traffic.at_once):
            self._next()
        if self._misuse.reset_every_s:
            self._at(self._misuse.reset_every_s, self._reset)
        while (self._asked or self._live_events()) and not self._is_stuck():
            self._happen()
            done = self._engine.step() if self._engine.busy else None
            self._check()
            for call_id in done or ():
                self._done(call_id)
            if done is None:
                self._rest()
            else:
                self._idle_since_s = None
        self._seen.lasted_s = self._engine.now_s
        self._check_tables()
        return self._seen

    # --- agents

    def _next(self) -> None:
        number = next(self._later, None)
        if number is None:
            return
        agent = agent_of(number, self._misuse, self._traffic.seed)
        self._at(self._engine.now_s, self._asking(_Agent(truthful(agent) if self._traffic.honest else agent)))

    def _asking(self, running: _Agent) -> Callable[[], None]:
        return lambda: self._ask(running)

    def _ask(self, running: _Agent) -> None:
        agent, step = running.agent, running.agent.steps[running.turn]
        call_id = f"{agent.name}/{running.turn}"
        self._asked[call_id] = running
        said = said_with_call(agent, running.turn, self._draw)
        call = TextCall(call_id, agent.number, step.prompt_tokens, step.output_tokens, agent.tenant, said)
        self._engine.ask(call)
        if self._engine.programs.is_held(call_id):
            self._held[call_id] = (self._engine.now_s, len(self._held))
        if step.given_up_s is not None and not self._traffic.honest:
            self._at(self._engine.now_s + step.given_up_s, lambda: self._give_up(call_id))

    def _give_up(self, call_id: str) -> None:
        if call_id in self._asked:
            self._engine.abort(call_id)
            self._held.pop(call_id, None)
            self._asked.pop(call_id)
            self._over()

    def _done(self, call_id: str) -> None:
        running = self._asked.pop(call_id)
        self._seen.calls += 1
        agent, turn = running.agent, running.turn
        for hint in said_after_call(agent, turn, self._misuse, self._draw):
            self._engine.hint(hint)
        running.turn += 1
        pause_s = agent.steps[turn].pause_s
        if running.turn == len(agent.steps) or pause_s is None:
            self._over()
        else:
            self._at(self._engine.now_s + pause_s, self._asking(running))

    def _over(self) -> None:
        self._seen.programs += 1
        self._next()

    # --- time

    def _at(self, time_s: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time_s, next(self._numbers), event))

    def _live_events(self) -> bool:
        """Whether there is more to come than the next reset."""
        return len(self._events) > bool(self._misuse.reset_every_s)

    def _happen(self) -> None:
        while self._events and self._events[0][0] <= self._engine.now_s:
            heapq.heappop(self._events)[2]()

    def _rest(self) -> None:
        now_s = self._engine.now_s
        next_s = self._events[0][0] if self._events else now_s + LOOK_AGAIN_S
        if not self._engine.busy:
            self._engine.now_s = max(now_s, next_s)
            self._idle_since_s = None
            return
        self._idle_since_s = now_s if self._idle_since_s is None else self._idle_since_s
        self._seen.idle_s = max(self._seen.idle_s, now_s - self._idle_since_s)
        self._engine.now_s = min(max(now_s, next_s), now_s + LOOK_AGAIN_S)

    def _is_stuck(self) -> bool:
        if self._seen.idle_s <= LONGEST_IDLE_S:
            return False
        self._seen.problem("stuck", f"calls waited for {self._seen.idle_s:.1f} s and nothing ran")
        return True

    def _reset(self) -> None:
        self._engine.reset()
        self._at(self._engine.now_s + self._misuse.reset_every_s, self._reset)

    # --- what is promised

    def _check(self) -> None:
        self._steps += 1
        self._check_kept()
        for call_id in [call_id for call_id in self._held if not self._engine.programs.is_held(call_id)]:
            self._check_held(*self._held.pop(call_id), call_id)
        if self._steps % SAMPLED_EVERY == 0:
            self._check_tables()
            for call_id, (since_s, others) in self._held.items():
                self._check_held(since_s, others, call_id)

    def _check_kept(self) -> None:
        share = self._engine.kept_blocks / self._engine.capacity_blocks
        self._seen.kept_share = max(self._seen.kept_share, share)
        if share > self._engine.programs.settings.share:
            self._seen.problem("cap", f"{share:.3f} of the KV is kept")

    def _check_held(self, since_s: float, others: int, call_id: str) -> None:
        limits = Limits()
        held_s = self._engine.now_s - since_s
        bound_s = limits.patience_s + (others + 1) * limits.spacing_s
        self._seen.held_s = max(self._seen.held_s, held_s)
        self._seen.of_bound = max(self._seen.of_bound, held_s / bound_s)
        if held_s > bound_s + LOOK_AGAIN_S + 1.0:
            self._seen.problem("starved", f"{call_id} was held for {held_s:.0f} s, not {bound_s:.0f} s")

    def _check_tables(self) -> None:
        for table, entries in tables_of(self._engine.programs).items():
            self._seen.tables[table] = max(self._seen.tables.get(table, 0), entries)
            if entries > WRITTEN.get(table, ENTRIES_AN_AGENT * self._traffic.at_once):
                self._seen.problem(table, f"{table} has {entries} entries")


def tables_of(programs: Programs) -> dict[str, int]:
    """How many entries each table has that the plugin's state holds, by the names of attributes."""
    found: dict[str, int] = {}
    _collect(programs, "", found, set())
    return found


def _collect(holder: object, path: str, found: dict[str, int], seen: set[int]) -> None:
    """What several share is told once, where it is met first."""
    for name, value in _attributes(holder):
        at = f"{path}{name.lstrip('_')}"
        if isinstance(value, dict | OrderedDict | list | deque | set) and isinstance(value, Sized):
            found[at] = len(value)
        elif type(value).__module__.startswith("halo_vllm") and id(value) not in seen:
            seen.add(id(value))
            _collect(value, f"{at}.", found, seen)


def _attributes(holder: object) -> list[tuple[str, object]]:
    if is_dataclass(holder):
        return [(part.name, getattr(holder, part.name)) for part in fields(holder)]
    return list(getattr(holder, "__dict__", {}).items())


def truthful(agent: Agent) -> Agent:
    """The same calls, but for those given up: of one that gave up its first, that is done."""
    steps = [replace(step, pause_s=step.pause_s or 0.0) for step in agent.steps if step.given_up_s is None]
    return Agent(agent.number, agent.tenant, tuple(steps) or (replace(agent.steps[0], given_up_s=None),))
