"""The programs of `benchmarks.kv.queue` as agents outside of Halo, whose calls come through the OpenAI door.

python -m benchmarks.kv.door_queue --rates 0.3 0.8 1.5 3.0 --seeds 3
"""

import heapq
from collections.abc import Sequence
from itertools import count

from benchmarks.kv.queue import ENGINE, Program, main, text
from executor.commands import CallMeAt
from executor.door.commands import Send
from executor.door.core import DoorCore
from executor.door.events import CallAnswered, CallArrived, DoorEvent
from executor.door.limits import DoorLimits
from executor.engines.model.block_pool import block_names
from executor.engines.model.engine import EngineModel
from executor.engines.port import EngineSpec
from executor.engines.prompts import prompt_text
from executor.events import WakeUp
from executor.prompt_blocks import prompt_blocks
from halo_vllm.policy.admission import Limits as Admission
from halo_vllm.policy.tools import ToolKey
from planner.ir.ids import ProgramId
from planner.ir.tokens import CHARS_PER_TOKEN

_TOOL = (ToolKey("look"),)
_Due = CallArrived | WakeUp | None  # None: the engine moves


def completions_s(programs: Sequence[Program], admission: Admission | None) -> list[float]:
    """Seconds from each program's arrival to its end, in virtual time on a modelled engine."""
    return _World(ENGINE, programs, DoorLimits(admission=admission)).run()


class _World:
    def __init__(self, spec: EngineSpec, programs: Sequence[Program], limits: DoorLimits) -> None:
        assert spec.profile is not None
        self._spec, self._profile, self._programs = spec, spec.profile, programs
        self._core, self._model = DoorCore([spec], limits), EngineModel[int](spec.profile, spec.max_running)
        self._heap: list[tuple[float, int, _Due]] = []
        self._order, self._numbers = count(), count()
        self._turn_of: dict[int, tuple[int, int]] = {}  # of each call: whose it is, and its turn
        self._said = [text(f"p{number} ", program.prompt_tokens) for number, program in enumerate(programs)]
        self._ended_s = [0.0] * len(programs)

    def run(self) -> list[float]:
        for number, program in enumerate(self._programs):
            self._ask(number, 0, program.at)
        while self._heap:
            at, _, due = heapq.heappop(self._heap)
            if due is None:
                self._move(at)
            else:
                self._tell(due)
            if (next_at := self._model.next_at()) is not None:
                self._at(next_at, None)
        return [ended - one.at for ended, one in zip(self._ended_s, self._programs, strict=True)]

    def _at(self, at: float, due: _Due) -> None:
        heapq.heappush(self._heap, (at, next(self._order), due))

    def _ask(self, number: int, turn: int, at: float) -> None:
        call = next(self._numbers)
        self._turn_of[call] = number, turn
        said, name = self._said[number], ProgramId(f"p{number}")
        prefix = prompt_blocks("m", [{"role": "user", "content": said}])
        tokens, most = len(said) // CHARS_PER_TOKEN, max(self._programs[number].answers)
        event = CallArrived(at, call, "team", "m", name, name, None, prefix, tokens, most, offers_tools=True)
        self._at(at, event)

    def _move(self, at: float) -> None:
        for finished in self._model.advance(at):
            number, turn = self._turn_of.pop(finished.id)
            program = self._programs[number]
            last = turn + 1 == len(program.answers)
            self._tell(CallAnswered(at, finished.id, finished.usage, tools=() if last else _TOOL))
            if last:
                self._ended_s[number] = at
                continue
            self._said[number] += text(f"turn {turn} ", program.answers[turn] + program.results[turn])
            self._ask(number, turn + 1, at + program.gaps_s[turn])

    def _tell(self, event: DoorEvent) -> None:
        for command in self._core.handle(event):
            if isinstance(command, Send):
                self._send(command.call, event.at)
            elif isinstance(command, CallMeAt):
                self._at(max(command.at, event.at), WakeUp(max(command.at, event.at)))

    def _send(self, call: int, at: float) -> None:
        number, turn = self._turn_of[call]
        prompt = prompt_text([{"role": "user", "content": self._said[number]}], ())
        names = block_names(prompt, self._profile.block_characters)
        self._model.submit(
            call, self._profile.text_tokens(len(prompt)), self._programs[number].answers[turn], at, names
        )


if __name__ == "__main__":
    raise SystemExit(main(completions_s))
