"""Calls that stand alone cost next to nothing, and nothing is lost by it: once one goes on from another, or is named,
all is as if it had been decided about each call from the first."""

from hypothesis import given, settings
from hypothesis import strategies as st

from halo_vllm.policy.identity import Ending, ending_of
from halo_vllm.program import Asked
from halo_vllm.programs import Programs
from halo_vllm.settings import Settings

BLOCK_TOKENS = 2
Text = tuple[int, ...]

events = st.lists(
    st.tuples(
        st.sampled_from(["new", "new", "on", "rewritten", "named", "start", "start", "end", "end", "preempt", "abort"]),
        st.integers(0, 7),
    ),
    max_size=60,
)


class Engine:
    """`asks`: first whether a call stands alone, as vLLM's scheduler does; else all is decided from the first."""

    def __init__(self, *, asks: bool) -> None:
        self.programs = Programs(Settings(fill=0.5), 64, BLOCK_TOKENS)
        self._asks = asks
        self._prompts: dict[str, Text] = {}

    def ask(self, call: str, prompt: Text, now_s: float, **said: str) -> bool:
        asked, before = _asked(call, prompt, said), [_asked(*each) for each in self._prompts.items()]
        self._prompts[call] = prompt
        if self._asks and self.programs.asleep:
            if self.programs.stands_alone(call, asked.chain, said, None, now_s):
                return True
            self.programs.catch_up(before)
        return self.programs.asked(asked, now_s)

    def end(self, call: str, answer: Text, now_s: float, *, aborted: bool) -> bool:
        """Whether its blocks are kept."""
        prompt = self._prompts.pop(call)
        whole = prompt + answer
        if self._asks and self.programs.asleep:
            endings, blocks = (_ending(prompt), _ending(whole)), len(_chain(whole))
            self.programs.ended_alone(call, *endings, "", blocks, now_s, aborted=aborted)
            return False
        outcome = self.programs.finished(call, _chain(whole), whole, now_s, aborted=aborted)
        return outcome is not None and outcome.keep

    def seen(self, now_s: float) -> object:
        """All that is answered from now on depends on this."""
        programs = self.programs
        admitted = programs.admitted(now_s, idle=False) if programs.awake else []
        places = {call: programs.place(call) for call in self._prompts} if programs.awake else {}
        order = list(programs.order(now_s)) if programs.awake else []
        return admitted, places, order, programs.counters.values(), programs.measured.queueing.miss_s()


@settings(max_examples=100)
@given(events)
def test_all_is_as_if_each_call_had_been_decided_about(told: list[tuple[str, int]]) -> None:
    lazy, eager = Engine(asks=True), Engine(asks=False)
    in_flight: dict[str, Text] = {}
    running: set[str] = set()
    ended: list[tuple[Text, Text]] = []
    for number, (event, pick) in enumerate(told):
        now_s, call = 0.5 * number, str(number)
        if event in ("new", "on", "rewritten", "named"):
            prompt, answer = ended[pick % len(ended)] if event in ("on", "rewritten") and ended else ((), ())
            text = (*prompt, *(answer if event == "on" else ()), number, number, number)
            said = {"halo_program": f"p{pick}"} if event == "named" else {}
            in_flight[call] = text
            assert lazy.ask(call, text, now_s, **said) == eager.ask(call, text, now_s, **said)
        elif in_flight:
            call = list(in_flight)[pick % len(in_flight)]
            if event == "start" and call not in running:
                running.add(call)
                assert lazy.programs.started(call, 0, now_s) == eager.programs.started(call, 0, now_s)
            elif event == "preempt" and call in running:
                running.remove(call)
                lazy.programs.preempted(call, now_s)
                eager.programs.preempted(call, now_s)
            elif event in ("end", "abort"):
                text, answer, aborted = in_flight.pop(call), (100 + number,) * 3, event == "abort"
                keeps = [engine.end(call, answer, now_s, aborted=aborted) for engine in (lazy, eager)]
                assert keeps[0] == keeps[1]
                ended += [] if aborted else [(text, answer)]
        assert lazy.seen(now_s) == eager.seen(now_s)


def test_only_what_tells_something_or_may_go_on_wakes_it() -> None:
    engine = Engine(asks=True)
    for number in range(5):
        assert engine.ask(str(number), (number,) * 9, number, temperature="0")
        engine.end(str(number), (7, 7), number, aborted=False)
    assert engine.programs.asleep
    engine.ask("on", (*(3,) * 9, 7, 7, 1), 9.0)
    assert not engine.programs.asleep
    assert engine.programs.counters.programs == 1


def _asked(call: str, prompt: Text, said: dict[str, str] | None = None) -> Asked:
    return Asked(call, _chain(prompt), prompt, said=said or {})


def _chain(text: Text) -> list[Text]:
    return [text[:end] for end in range(BLOCK_TOKENS, len(text) + 1, BLOCK_TOKENS)]


def _ending(text: Text) -> Ending:
    return ending_of(_chain(text), text[len(_chain(text)) * BLOCK_TOKENS :])
