"""What `halo_vllm` decides about programs, without vLLM: these events, these answers."""

from halo_vllm.alone import Alone
from halo_vllm.counters import Counters
from halo_vllm.policy.admission import Limits
from halo_vllm.policy.hints import Hints
from halo_vllm.program import Asked, Resumed
from halo_vllm.programs import Programs
from halo_vllm.roster import Roster
from halo_vllm.settings import Settings

BLOCK_TOKENS = 16


def ask(programs: Programs, call: str, blocks: int, now_s: float, **said: object) -> bool:
    """A call whose blocks are its own, named after its program: "a" of "a/0"."""
    return programs.asked(Asked(call, _chain(call, blocks), _tokens(call, blocks), said=said), now_s)


def finish(programs: Programs, call: str, blocks: int, now_s: float) -> bool:
    """Whether the call's blocks are kept."""
    programs.started(call, 0, now_s)
    outcome = programs.finished(call, _chain(call, blocks), _tokens(call, blocks), now_s, aborted=False)
    return outcome is not None and outcome.keep


def _chain(call: str, blocks: int) -> list[tuple[str, int]]:
    return [(call.partition("/")[0], number) for number in range(blocks)]


def _tokens(call: str, blocks: int) -> list[int]:
    return [1] * (blocks * BLOCK_TOKENS + 1)


def pauses_of(programs: Programs, back: int, gone: int) -> None:
    """So many programs were back a tenth of a second after their first call, so many never; long ago."""
    for number in range(back + gone):
        name = f"seen-{number}"
        ask(programs, f"{name}/0", 1, number, halo_program=name)
        finish(programs, f"{name}/0", 1, number)
        if number < back:
            ask(programs, f"{name}/1", 1, number + 0.1, halo_program=name, halo_last=1)
            finish(programs, f"{name}/1", 1, number + 0.1)
    programs.expired(100.0)


def let_in_beside_one_that_waits(back: int, gone: int) -> bool:
    """Whether a program of 60 blocks may run in a KV of 100 while another of 60 waits for its tool."""
    programs = Programs(Settings(turns_ahead=0.0, fill=1.0), 100, BLOCK_TOKENS)
    pauses_of(programs, back, gone)
    ask(programs, "a/0", 60, 100.0, halo_program="a")
    assert finish(programs, "a/0", 60, 100.0)
    assert not ask(programs, "b/0", 60, 100.05, halo_program="b")
    return programs.admitted(100.05, idle=False) == ["b/0"]


def test_a_program_that_waits_takes_room_by_how_likely_it_is_back() -> None:
    assert not let_in_beside_one_that_waits(back=20, gone=0)
    assert let_in_beside_one_that_waits(back=10, gone=10)


def test_programs_that_tell_nothing_are_known_by_how_many_calls_they_make() -> None:
    """All end after their second call: what is kept after that goes before what is kept after the first."""
    programs = Programs(Settings(), 1000, BLOCK_TOKENS)
    for number in range(20):
        ask(programs, f"{number}/0", 2, number)
        finish(programs, f"{number}/0", 2, number)
        ask(programs, f"{number}/1", 3, number + 0.1)
        finish(programs, f"{number}/1", 3, number + 0.2)
    programs.expired(100.0)
    ask(programs, "a/0", 2, 100.0)
    finish(programs, "a/0", 2, 100.0)
    for call in ("a/1", "b/0"):
        ask(programs, call, 3, 100.1)
        finish(programs, call, 3, 100.1)
    assert list(programs.order(100.15)) == ["call:a/0", "call:b/0"]


def test_a_call_let_in_that_waits_on_behind_earlier_programs_goes_first_when_it_has_aged() -> None:
    programs, limits = Programs(Settings(), 1000, BLOCK_TOKENS), Limits()
    assert not ask(programs, "old/0", 10, 0.0, halo_program="old")
    assert not ask(programs, "new/0", 10, 0.0, halo_program="new")
    assert programs.admitted(0.0, idle=False) == ["old/0", "new/0"]
    programs.started("old/0", 0, 0.0)
    assert programs.aged(limits.patience_s - 1) is None
    assert programs.aged(limits.patience_s) == "new/0"
    assert programs.place("new/0") < programs.place("old/0")
    assert programs.aged(limits.patience_s) is None


def test_a_call_waits_for_room_as_long_as_it_takes_to_prefill_what_it_would_take_again() -> None:
    programs = Programs(Settings(admission=False), 100, BLOCK_TOKENS)
    for number in range(1, 9):
        programs.measured.prefill.step(number * BLOCK_TOKENS, number * 0.25)
    ask(programs, "a/0", 40, 10.0, halo_program="a")
    assert not programs.may_take("a/0", 4, 10.9)
    assert programs.may_take("a/0", 4, 11.1)
    assert not programs.may_take("a/0", 8, 11.1)
    assert programs.may_take("of nobody", 8, 11.1)


def test_what_a_program_left_is_told_when_it_runs_again() -> None:
    """Not while another call of it is still to start: that may need what the first did not find."""
    programs = Programs(Settings(), 1000, BLOCK_TOKENS)
    pauses_of(programs, back=20, gone=0)
    for calls in (["a/1"], ["a/2", "a/3"]):
        ask(programs, "a/0", 10, 200.0, halo_program="a")
        programs.admitted(200.0, idle=True)
        assert finish(programs, "a/0", 10, 200.0)
        for call in calls:
            ask(programs, call, 10, 200.05, halo_program="a")
        (resumed,) = programs.started(calls[0], 0, 200.05)
        assert resumed == Resumed(resumed.branch, left=len(calls) == 1)
        for call in calls:
            programs.finished(call, (), (), 200.05, aborted=True)


def test_programs_long_gone_are_forgotten_and_those_at_work_are_not() -> None:
    roster = Roster(Counters(), BLOCK_TOKENS, Alone(), infer=False, most_programs=8)
    works, _ = roster.program_of(Asked("0", (), ()), Hints(program="works"))
    works.active = True
    for number in range(20):
        roster.program_of(Asked(str(number), (), ()), Hints(program=str(number)))
    known = ["works", *map(str, range(20))]
    assert [name for name in known if roster.named("", name)] == ["works", *map(str, range(13, 20))]
