"""Whose call a call is: of the program it names, or of the one whose last prompt it goes on from."""

from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence

from halo_vllm.alone import Alone, Ended
from halo_vllm.counters import Counters
from halo_vllm.policy.branches import Beginning
from halo_vllm.policy.hints import Clamps, Hints, read_hints, scoped
from halo_vllm.policy.identity import Context, Conversations, Ending
from halo_vllm.policy.retention import Waiting
from halo_vllm.program import Asked, Branch, Call, Program, after_calls, key_of
from halo_vllm.trust import Trust

MOST_PROGRAMS = 65_536
LOOKED_AT = 8
CLAMPS = Clamps()


class Roster:
    """The programs known, bounded. `infer`: whether calls without a name are matched by their prompts. Of calls that
    stood alone no program is known before another goes on from them."""

    def __init__(
        self, counters: Counters, block_tokens: int, alone: Alone, *, infer: bool, most_programs: int = MOST_PROGRAMS
    ) -> None:
        self._counters, self._block_tokens, self._infer, self._alone = counters, block_tokens, infer, alone
        self._conversations, self._trust = Conversations(), Trust()
        self._most = most_programs
        self._programs: OrderedDict[str, Program] = OrderedDict()
        self._number = 0

    def hints(self, asked: Asked) -> Hints:
        said = asked.said if asked.session is None else {"session_id": asked.session, **asked.said}
        return self.read(said) if said else Hints()

    def read(self, said: Mapping[str, object]) -> Hints:
        hints = read_hints(said, CLAMPS)
        self._counters.ignored_hints += len(hints.ignored)
        return hints

    def program_of(self, asked: Asked, hints: Hints) -> tuple[Program, str | None]:
        """The program, and the call it goes on from where that was told by its prompt."""
        if hints.program is not None:
            return self._enter(scoped(asked.tenant, hints.program), asked, named=True), None
        found = self._conversations.continued(self.context(asked)) if self._infer else None
        if found is None:
            return self._enter(key_of(asked.id), asked, named=False), None
        program = self._programs.get(found.program) or self._recalled(found.call)
        if program is None or program.pending:
            return self._enter(key_of(asked.id), asked, named=False), found.call
        if program.calls == 1 and not program.named:
            self._trust.returned(program.key)
            self._counters.programs += 1
        return program, found.call

    def context(self, asked: Asked) -> Context:
        return Context(asked.chain, asked.tokens, self._block_tokens)

    def beginning(self, chain: Sequence[Hashable], tokens: Sequence[int]) -> Beginning:
        return Beginning(len(chain), Context(chain, tokens, self._block_tokens).ending)

    def may_go_on(self, chain: Sequence[Hashable]) -> bool:
        """Whether a prompt of this chain may go on from an earlier call at all."""
        return self._infer and self._conversations.may_go_on(chain)

    def next_sequence(self) -> int:
        self._number += 1
        return self._number

    def ended_alone(self, ended: Ended, prompt: Ending, whole: Ending) -> None:
        """A call that stood alone ended; a prompt may go on from it."""
        self._alone.ends(ended)
        self._conversations.finished(ended.call, key_of(ended.call), prompt, whole)

    def enter_alone(self, asked: Asked, sequence: int) -> Program:
        """The program of a call that stood alone and is not over."""
        return self._known(Program(key_of(asked.id), sequence, asked.tenant, named=False))

    def waits(self, program: str, now_s: float) -> None:
        """The first call of a program without a name ended then."""
        self._trust.wait(program, now_s)

    def named(self, tenant: str, name: str) -> Program | None:
        """The tenant's program of that name."""
        return self._programs.get(scoped(tenant, name))

    def is_program(self, program: Program) -> bool:
        """Whether it is worth holding anything back or keeping anything for it, or may well stand alone."""
        return program.named or program.calls > 0 or self._trust.given

    def comes_back(self, program: Program) -> bool:
        """The same of a program whose call has just ended."""
        return program.named or program.calls > 1 or self._trust.given

    def finished(self, call: Call, whole: Beginning, now_s: float) -> None:
        """A call of a program ended; its prompt and answer are `whole`."""
        program = call.program
        if self._infer:
            ending = whole.ending
            self._conversations.finished(call.asked.id, program.key, call.prompt.ending, ending, call.after)
        if program.calls == 1 and not program.named:
            self._trust.wait(program.key, now_s)

    def settle(self, now_s: float) -> None:
        self._trust.settle(now_s)

    def remove(self, program: Program) -> None:
        self._programs.pop(program.key, None)

    def _enter(self, key: str, asked: Asked, *, named: bool) -> Program:
        program = self._programs.get(key)
        if program is None:
            program = self._known(Program(key, self.next_sequence(), asked.tenant, named))
            self._counters.programs += named
        self._programs.move_to_end(key)
        return program

    def _recalled(self, call_id: str) -> Program | None:
        """The program of a call that stood alone until now."""
        ended = self._alone.returns(call_id)
        if ended is None:
            return None
        program = Program(key_of(call_id), ended.sequence, ended.tenant, named=False, calls=1, branched=1)
        branch = program.branches[program.key] = Branch(program.key, program, calls=1, blocks=ended.blocks)
        branch.waiting = Waiting(ended.ended_s, 0, after_calls(1))
        return self._known(program)

    def _known(self, program: Program) -> Program:
        self._programs[program.key] = program
        self._forget_oldest()
        return program

    def _forget_oldest(self) -> None:
        """Of those at work and those that something is kept for none is forgotten: they count as used just now."""
        for _ in range(min(len(self._programs) - self._most, LOOKED_AT)):
            oldest = next(iter(self._programs.values()))
            if oldest.pending or oldest.active:
                self._programs.move_to_end(oldest.key)
            else:
                del self._programs[oldest.key]
