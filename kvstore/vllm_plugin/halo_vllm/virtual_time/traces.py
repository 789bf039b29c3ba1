"""Seeded agent programs to replay: Poisson arrivals, growing prompts, tools with log-normal pauses."""

import math
import random
from dataclasses import dataclass

from halo_vllm.virtual_time.programs import Program, Turn


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool whose pauses are log-normal around `median_s`; of all calls, `share` go to it."""

    name: str
    median_s: float
    share: float
    spread: float = 0.6


SHORT_TOOLS = (Tool("list", 0.25, 1 / 3), Tool("search", 0.7, 1 / 3), Tool("edit", 1.4, 1 / 3))
#: A quarter of the calls run a test suite.
LONG_TOOLS = (*(Tool(tool.name, tool.median_s, 0.25) for tool in SHORT_TOOLS), Tool("tests", 10.0, 0.25))


@dataclass(frozen=True, slots=True)
class Load:
    """Pairs are the least and the most, both included, and drawn evenly."""

    programs: int = 40
    programs_per_s: float = 1.5
    turns: tuple[int, int] = (5, 8)
    first_prompt_tokens: tuple[int, int] = (1500, 3000)
    turn_prompt_tokens: tuple[int, int] = (200, 400)
    output_tokens: tuple[int, int] = (16, 40)
    tools: tuple[Tool, ...] = SHORT_TOOLS


def programs_of(load: Load, random: random.Random) -> tuple[Program, ...]:
    """In order of arrival."""
    arrival_s, programs = 0.0, []
    for number in range(load.programs):
        arrival_s += random.expovariate(load.programs_per_s)
        programs.append(Program(f"program-{number}", arrival_s, _turns(load, random)))
    return tuple(programs)


def _turns(load: Load, random: random.Random) -> tuple[Turn, ...]:
    count = random.randint(*load.turns)
    return tuple(_turn(load, random, first=number == 0, last=number == count - 1) for number in range(count))


def _turn(load: Load, random: random.Random, *, first: bool, last: bool) -> Turn:
    prompt_tokens = random.randint(*(load.first_prompt_tokens if first else load.turn_prompt_tokens))
    output_tokens = random.randint(*load.output_tokens)
    tool = random.choices(load.tools, [tool.share for tool in load.tools])[0]
    pause_s = random.lognormvariate(math.log(tool.median_s), tool.spread)
    return Turn(prompt_tokens, output_tokens) if last else Turn(prompt_tokens, output_tokens, pause_s, tool.name)
