"""Agent programs to replay, and what became of them. Values only."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Turn:
    """One LLM request and the tool call after it. `prompt_tokens` are new: all that was said before goes first."""

    prompt_tokens: int
    output_tokens: int
    pause_s: float = 0.0
    tool: str = ""


@dataclass(frozen=True, slots=True)
class Program:
    """`key` names it to the engine. Programs that share `opening` start with the same `opening_tokens` tokens."""

    key: str
    arrival_s: float
    turns: tuple[Turn, ...]
    opening: str = ""
    opening_tokens: int = 0

    def __post_init__(self) -> None:
        assert self.turns, "a program has at least one turn"


@dataclass(frozen=True, slots=True)
class TurnResult:
    """When the turn was asked, its first token came, and it was done; and how its prompt was computed."""

    asked_s: float
    first_token_s: float
    done_s: float
    prompt_tokens: int
    cached_tokens: int
    prefilled_tokens: int

    @property
    def ttft_s(self) -> float:
        return self.first_token_s - self.asked_s


@dataclass(frozen=True, slots=True)
class ProgramResult:
    program: Program
    turns: tuple[TurnResult, ...]

    @property
    def completion_s(self) -> float:
        """From its arrival to its last token, the tools' pauses included."""
        return self.turns[-1].done_s - self.program.arrival_s


@dataclass(frozen=True, slots=True)
class Replay:
    """One run of all programs on one engine. `counters` are the scheduler's own, where it has some."""

    programs: tuple[ProgramResult, ...]
    makespan_s: float
    steps: int
    counters: tuple[tuple[str, float], ...] = ()

    @property
    def mean_s(self) -> float:
        return sum(result.completion_s for result in self.programs) / len(self.programs)

    @property
    def prefilled_tokens(self) -> int:
        return sum(turn.prefilled_tokens for result in self.programs for turn in result.turns)

    @property
    def cached_share(self) -> float:
        """Of all prompt tokens, those found in the KV cache."""
        turns = [turn for result in self.programs for turn in result.turns]
        return sum(turn.cached_tokens for turn in turns) / sum(turn.prompt_tokens for turn in turns)
