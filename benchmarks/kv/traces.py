"""The traces of the ladder, drawn from `distributions` and scaled to a small engine.

- `swe`: a coding agent with a shell; three recorded turns make one, so that turns and growth are those of the traces
  in arXiv 2511.02230, Table 1 (11 turns, much text between them);
- `bfcl`: half function-calling conversations over shared tool documents, half web searches that read pages;
- `forty-turns`: the coding agent, forty recorded turns, none merged;
- `heavy-tail`: `swe`, where 4 % of tool calls take more than a minute (scaled), half of them foretold by their tool;
- `chat`: people who write to a model: no tools, nothing told;
- `unhinted-mix`: half `swe`, half `chat`, nothing told.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import exp
from random import Random

from benchmarks.kv.distributions import Distributions, RecordedTurn
from benchmarks.kv.programs import Program, Turn

LONG_SHARE = 0.04
#: Recorded seconds of the longest tool call: a run has to end.
LONGEST_PAUSE_S = 180.0
#: In recorded tokens: a user's question, a function's result, a search's list of pages, a page (median, spread).
QUESTION_TOKENS, RESULT_TOKENS, HITS_TOKENS, PAGE_TOKENS = 60, 60, 1000, (4000, 0.8)
CALL_TOKENS, ANSWER_TOKENS, SEARCH_DOCUMENT_TOKENS = 60, 300, 1500
#: Seconds of a search and of a page: together a mean of about 1.9 s, as arXiv 2511.02230 tells of such agents.
SEARCH_S, PAGE_S, SLOW_PAGE_S, SLOW_PAGES = (1.2, 0.5), (1.0, 0.6), (8.0, 0.4), 0.1
CHAT_TURNS, CHAT_TOKENS, CHAT_ANSWER_TOKENS, THINKING_S = (1, 6), (300, 1.0), (250, 0.6), (10.0, 0.8)


@dataclass(frozen=True, slots=True)
class Scale:
    """How recorded runs are made small. Tokens shrink by `tokens`, never below `least_tokens`.

    Pauses shrink so that a pause still compares with the prefill of the program's own context as it does on the
    reference: an 8B model on one H100, which prefills about 20,000 tokens/s.
    """

    tokens: float = 1 / 6
    engine_prefill_tokens_per_s: float = 9_000.0
    reference_prefill_tokens_per_s: float = 20_000.0
    context_tokens: int = 7_000
    least_tokens: int = 4
    largest_output_tokens: int = 160
    merged_turns: int = 3

    @property
    def pauses(self) -> float:
        return self.tokens * self.reference_prefill_tokens_per_s / self.engine_prefill_tokens_per_s

    def __str__(self) -> str:
        return (
            f"tokens x {self.tokens:.3g}, pauses x {self.pauses:.3g} (a pause to a prefill of the program's context"
            f" as at {self.reference_prefill_tokens_per_s:,.0f} tokens/s), contexts up to {self.context_tokens:,}"
        )


def draw_programs(
    trace: str, count: int, seed: int, known: Distributions, scale: Scale = Scale()
) -> tuple[Program, ...]:
    """`count` programs of a trace in `TRACES`; the same for the same seed, and the first of a longer drawing."""
    draw = _Draw(Random(f"{trace} {seed}"), known, scale)
    return tuple(_fitted(TRACES[trace](draw, f"{trace}-{number}"), scale) for number in range(count))


@dataclass(frozen=True, slots=True)
class _Draw:
    random: Random
    known: Distributions
    scale: Scale

    def turn(
        self, new_tokens: float, output_tokens: float, tool: str | None = None, name: str = "", pause_s: float = 0.0
    ) -> Turn:
        """Of recorded tokens and seconds."""
        least, scale = self.scale.least_tokens, self.scale
        new = max(least, round(new_tokens * scale.tokens))
        output = min(max(least, round(output_tokens * scale.tokens)), scale.largest_output_tokens)
        return Turn(new, output, tool, name, round(pause_s * scale.pauses, 4))

    def pause_s(self, argument_class: str) -> float:
        pauses = self.known.pauses_s
        pause_s = self.random.choice(pauses.get(argument_class) or pauses["shell_other"])
        return min(pause_s, LONGEST_PAUSE_S)

    def about(self, median_and_spread: tuple[float, float]) -> float:
        median, spread = median_and_spread
        return median * exp(self.random.gauss(0.0, spread))


def _swe(draw: _Draw, program: str) -> Program:
    run = draw.random.choice(draw.known.runs)
    return Program(program, tuple(_shell_turn(draw, turn) for turn in _merged(run, draw.scale.merged_turns)))


def _forty_turns(draw: _Draw, program: str) -> Program:
    run = draw.random.choice([run for run in draw.known.runs if len(run) >= 40])
    return Program(program, tuple(_shell_turn(draw, turn) for turn in run[:40]))


def _shell_turn(draw: _Draw, turn: RecordedTurn) -> Turn:
    pause_s = draw.pause_s(turn.argument_class)
    return draw.turn(turn.new_tokens, turn.output_tokens, "bash", turn.argument_class, pause_s)


def _merged(run: Sequence[RecordedTurn], together: int) -> Iterator[RecordedTurn]:
    """So many turns as one: what all but the last answered is text that comes between. All of the first prompt is."""
    turns = iter(run)
    while group := tuple(islice(turns, together)):
        *before, last = group
        tokens = last.new_tokens + sum(turn.new_tokens + turn.output_tokens for turn in before)
        yield replace(last, new_tokens=tokens)


def _heavy_tail(draw: _Draw, program: str) -> Program:
    drawn = _swe(draw, program)
    return replace(drawn, turns=tuple(_perhaps_long(draw, turn) for turn in drawn.turns))


def _perhaps_long(draw: _Draw, turn: Turn) -> Turn:
    if draw.random.random() >= LONG_SHARE:
        return turn
    pause_s = min(draw.random.choice(draw.known.long_pauses_s), LONGEST_PAUSE_S) * draw.scale.pauses
    foretold = draw.random.random() < 0.5
    return replace(turn, tool="task" if foretold else turn.tool, pause_s=round(pause_s, 4))


def _bfcl(draw: _Draw, program: str) -> Program:
    return _talk(draw, program) if draw.random.random() < 0.5 else _search(draw, program)


def _talk(draw: _Draw, program: str) -> Program:
    talk = draw.random.choice(draw.known.talks)
    turns, asked = [], True
    for name in talk.calls:
        tokens = QUESTION_TOKENS if asked else RESULT_TOKENS
        asked = name == "answer"
        pause_s = 0.0 if asked else draw.pause_s("Read" if "Read" in draw.known.pauses_s else "read_search")
        turns.append(draw.turn(tokens, CALL_TOKENS, None if asked else name, "", pause_s))
    return _with_documents(draw, program, talk.documents, talk.document_tokens, turns)


def _search(draw: _Draw, program: str) -> Program:
    turns = [draw.turn(QUESTION_TOKENS, CALL_TOKENS, "search", "", draw.about(SEARCH_S))]
    for _ in range(draw.random.choice(draw.known.searches)):
        page_s = SLOW_PAGE_S if draw.random.random() < SLOW_PAGES else PAGE_S
        turns.append(draw.turn(HITS_TOKENS, CALL_TOKENS, "fetch_url", "", draw.about(page_s)))
        turns.append(draw.turn(draw.about(PAGE_TOKENS), CALL_TOKENS, "search", "", draw.about(SEARCH_S)))
    turns.append(draw.turn(HITS_TOKENS, ANSWER_TOKENS))
    return _with_documents(draw, program, "web_search", SEARCH_DOCUMENT_TOKENS, turns)


def _with_documents(draw: _Draw, program: str, name: str, recorded_tokens: int, turns: list[Turn]) -> Program:
    shared = round(recorded_tokens * draw.scale.tokens)
    first = replace(turns[0], new_tokens=turns[0].new_tokens + shared)
    return Program(program, (first, *turns[1:]), name, shared)


def _chat(draw: _Draw, program: str) -> Program:
    turns = tuple(
        draw.turn(draw.about(CHAT_TOKENS), draw.about(CHAT_ANSWER_TOKENS), None, "", draw.about(THINKING_S))
        for _ in range(draw.random.randint(*CHAT_TURNS))
    )
    return Program(program, turns, hinted=False)


def _unhinted_mix(draw: _Draw, program: str) -> Program:
    make = _swe if draw.random.random() < 0.5 else _chat
    return replace(make(draw, program), hinted=False)


TRACES: dict[str, Callable[[_Draw, str], Program]] = {
    "swe": _swe,
    "bfcl": _bfcl,
    "forty-turns": _forty_turns,
    "heavy-tail": _heavy_tail,
    "chat": _chat,
    "unhinted-mix": _unhinted_mix,
}


def _fitted(program: Program, scale: Scale) -> Program:
    """Ended before the turn that would not fit into the context; the last turn calls nothing."""
    kept, tokens = list[Turn](), 0
    for turn in program.turns:
        tokens += turn.new_tokens + turn.output_tokens
        if tokens > scale.context_tokens and kept:
            break
        kept.append(_first_cut(turn, scale) if tokens > scale.context_tokens else turn)
    kept[-1] = replace(kept[-1], tool=None, argument_class="", pause_s=0.0)
    return replace(program, turns=tuple(kept))


def _first_cut(turn: Turn, scale: Scale) -> Turn:
    return replace(turn, new_tokens=scale.context_tokens - turn.output_tokens)
