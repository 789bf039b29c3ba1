"""Agent programs that misbehave: tools that never return, ends that nobody tells, hints that lie, calls given up."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, log, nan
from random import Random

TENANTS = ("", "first", "second")
TOOLS = (("list", 0.25), ("search", 0.7), ("edit", 1.4))
LIES: tuple[Mapping[str, object], ...] = (
    {"halo_ttl_s": inf},
    {"halo_ttl_s": 1e308, "halo_eta_s": 1e9},
    {"halo_ttl_s": -1, "halo_eta_s": nan},
    {"halo_eta_s": 0.0, "halo_turns_left": 10**9},
    {"halo_tool": ["x" * 10_000] * 100, "halo_tool_arguments": "{" * 5_000},
    {"halo_program": "p" * 10_000, "halo_last": 7},
)


@dataclass(frozen=True, slots=True)
class Misuse:
    """Shares: of tools that never return, of programs that never say they are done, of programs that lie, of calls
    given up in mid-call. `random_tools`: no tool name comes twice. `flood`: hints a liar posts after each of its calls.
    `reset_every_s`: the prefix cache is reset so often; 0 is never. `endless`: so many programs, the first, go on for
    80 turns with hardly a pause."""

    never_return: float = 0.0
    never_done: float = 0.0
    liars: float = 0.0
    given_up: float = 0.0
    random_tools: bool = False
    flood: int = 0
    reset_every_s: float = 0.0
    endless: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """One turn: the prompt's whole length, the answer's, and the tool after it. `pause_s` None: it never returns.
    `given_up_s`: so long after it was asked the client goes away."""

    prompt_tokens: int
    output_tokens: int
    tool: str
    pause_s: float | None
    given_up_s: float | None = None


@dataclass(frozen=True, slots=True)
class Agent:
    number: int
    tenant: str
    steps: tuple[Step, ...]
    tells_end: bool = True
    lies: bool = False

    @property
    def name(self) -> str:
        return f"agent-{self.number}"


def agent_of(number: int, misuse: Misuse, seed: int) -> Agent:
    """What it asks for is drawn before how it behaves, so that an honest run asks for the same, but for what comes
    after a tool that never returns or a call given up."""
    work, manners = Random(f"{seed}/{number}/work"), Random(f"{seed}/{number}/manners")
    endless = number < misuse.endless
    turns = 80 if endless else work.randint(3, 7)
    steps, tokens = list[Step](), work.randrange(1_504, 3_008, 16)
    for turn in range(turns):
        output = work.randrange(16, 41, 8)
        name, median_s = work.choice(TOOLS)
        pause_s: float | None = 0.05 if endless else work.lognormvariate(log(median_s), 0.6)
        tool = f"tool-{number}-{turn}" if misuse.random_tools else name
        given_up_s = manners.uniform(0.0, 1.0) if manners.random() < misuse.given_up else None
        if manners.random() < misuse.never_return and turn < turns - 1:
            pause_s = None
        steps.append(Step(tokens, output, tool, pause_s, given_up_s))
        if pause_s is None or given_up_s is not None:
            break
        tokens += output + (16 if endless else work.randrange(208, 401, 16))
    tenant = work.choice(TENANTS)
    tells_end = manners.random() >= misuse.never_done and not endless
    return Agent(number, tenant, tuple(steps), tells_end, manners.random() < misuse.liars)


def said_with_call(agent: Agent, turn: int, draw: Random) -> dict[str, object]:
    said: dict[str, object] = {"halo_program": agent.name}
    step = agent.steps[turn]
    if agent.tells_end and turn == len(agent.steps) - 1 and step.pause_s is not None:
        said["halo_last"] = 1
    if agent.lies:
        said |= draw.choice(LIES)
        said |= draw.choice(({}, {"halo_last": 1}, {"halo_program": _another(agent, draw)}))
    return said


def said_after_call(agent: Agent, turn: int, misuse: Misuse, draw: Random) -> list[dict[str, object]]:
    tool = {"event": "tool_called", "halo_tool": agent.steps[turn].tool}
    told: list[dict[str, object]] = [{"program": agent.name, "cache_salt": agent.tenant, **tool}]
    return told + [_lie(agent, draw) for _ in range(misuse.flood if agent.lies else 0)]


def _lie(agent: Agent, draw: Random) -> dict[str, object]:
    """About its own program, or one of its tenant's or another's; what it does not know of others is their salt."""
    name = draw.choice((agent.name, agent.name, agent.name, _another(agent, draw)))
    event = "tool_called" if name == agent.name else draw.choice(("let_go", "last_step", "tool_finished"))
    salt = draw.choice((agent.tenant, f"guess-{draw.randrange(1000)}"))
    return {"program": name, "event": event, "cache_salt": salt, **draw.choice(LIES[:4])}


def _another(agent: Agent, draw: Random) -> str:
    return f"agent-{max(agent.number - draw.randint(1, 8), 0)}"
