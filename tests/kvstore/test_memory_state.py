"""What a single process remembers of programs is bounded."""

from kvstore.memory_state import MemoryStates
from kvstore.program_state import ProgramState
from planner.ir.ids import ProgramId


def state(name: str, version: int = 1) -> ProgramState:
    return ProgramState(ProgramId(name), version, "", "call", 0.0)


async def test_beyond_its_bound_it_forgets_what_nobody_saved_for_longest() -> None:
    states = MemoryStates(most=2)
    await states.save([state("a"), state("b")])
    await states.save([state("a", 2)])
    await states.save([state("c")])
    assert [await states.load(ProgramId(name)) is not None for name in "abc"] == [True, False, True]

    await states.name_turns([(name, ProgramId("a")) for name in "xyz"])
    assert await states.program_of_turn(["x"]) is None
    assert await states.program_of_turn(["x", "z"]) == "a"
