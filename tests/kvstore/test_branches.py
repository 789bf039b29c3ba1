"""Several calls of one program at once: what is kept of them, and when a branch is over."""

from halo_vllm.branching import MOST_WAITING
from halo_vllm.policy.admission import Limits
from halo_vllm.program import Asked, Outcome
from halo_vllm.programs import Programs
from halo_vllm.settings import Settings

BLOCK_TOKENS = 2
Text = tuple[int, ...]

MAIN, OPENING = (1,) * 12, (1,) * 6


class Agent:
    """Calls of one named program, a tenth of a second apart. `branches` are what is kept, by the calls that left it."""

    def __init__(self, capacity_blocks: int = 1000, **settings: float) -> None:
        self.programs = Programs(Settings(turns_ahead=0.0, **settings), capacity_blocks, BLOCK_TOKENS)  # type: ignore[arg-type]
        self.now_s = 0.0
        self.outcomes: dict[str, Outcome] = {}
        self._prompts: dict[str, Text] = {}

    def ask(self, call: str, prompt: Text, program: str = "a", **said: object) -> bool:
        self.now_s += 0.1
        self._prompts[call] = prompt
        asked = Asked(call, chain(prompt), prompt, said={"halo_program": program, **said})
        return self.programs.asked(asked, self.now_s)

    def start(self, *calls: str, cached_tokens: int = 0) -> dict[str, bool]:
        """What need not be kept any more, by the calls that left it, and whether that was left behind."""
        self.programs.admitted(self.now_s, idle=True)
        resumed = [one for call in calls for one in self.programs.started(call, cached_tokens, self.now_s)]
        return {self._names()[one.branch]: one.left for one in resumed}

    def end(self, call: str, answer: Text = (9, 9), *, aborted: bool = False) -> bool:
        """Whether it is kept."""
        self.now_s += 0.1
        whole = self._prompts[call] + answer
        outcome = self.programs.finished(call, chain(whole), whole, self.now_s, aborted=aborted)
        assert outcome is not None
        self.outcomes[call] = outcome
        return outcome.keep

    def run(self, call: str, prompt: Text, answer: Text = (9, 9)) -> dict[str, bool]:
        self.ask(call, prompt)
        left = self.start(call)
        assert self.end(call, answer)
        return left

    def at_once(self, prompts: dict[str, Text]) -> None:
        """All are asked before one starts; each answer is another."""
        for call, prompt in prompts.items():
            self.ask(call, prompt)
        self.start(*prompts)
        for number, call in enumerate(prompts):
            assert self.end(call, (100 + number,) * 4)

    def kept(self) -> set[str]:
        names = self._names()
        return {names[branch] for branch in self.programs.order(self.now_s)}

    def _names(self) -> dict[str, str]:
        return {outcome.branch: call for call, outcome in self.outcomes.items()}


def chain(text: Text) -> list[Text]:
    return [text[:end] for end in range(BLOCK_TOKENS, len(text) + 1, BLOCK_TOKENS)]


def test_every_vote_may_be_gone_on_from_until_one_is() -> None:
    agent = Agent()
    agent.at_once({"one": MAIN, "two": MAIN, "three": MAIN})
    assert agent.kept() == {"one", "two", "three"}
    agent.ask("on", (*MAIN, *(101,) * 4, 5))
    assert agent.start("on") == {"two": True, "one": True, "three": True}
    assert agent.kept() == set()


def test_a_vote_is_not_given_up_while_another_call_goes_on_from_it() -> None:
    """As in a search that goes on from the best two."""
    agent = Agent()
    agent.at_once({"one": MAIN, "two": MAIN, "three": MAIN})
    agent.ask("on one", (*MAIN, *(100,) * 4, 5))
    agent.ask("on two", (*MAIN, *(101,) * 4, 5))
    assert agent.start("on one") == {"one": False, "three": False}
    assert agent.start("on two") == {"two": False}


def test_who_waits_for_sub_agents_is_kept_beside_them() -> None:
    """They share an opening with it and with each other; that one goes on tells nothing of the others."""
    agent = Agent()
    agent.run("main", MAIN)
    agent.at_once({"x": (*OPENING, 2, 2, 2, 2), "y": (*OPENING, 3, 3, 3, 3)})
    assert agent.kept() == {"main", "x", "y"}
    assert agent.run("x on", (*OPENING, 2, 2, 2, 2, *(100,) * 4, 5)) == {"x": True}
    assert agent.kept() == {"main", "x on", "y"}
    assert agent.run("main on", (*MAIN, 9, 9, 5)) == {"main": True}
    assert agent.kept() == {"main on", "x on", "y"}


def test_a_call_that_goes_on_where_branches_parted_joins_them() -> None:
    agent = Agent()
    agent.run("main", MAIN)
    agent.at_once({"x": (*MAIN, 9, 9, 2, 2), "y": (*MAIN, 9, 9, 3, 3)})
    assert agent.run("y on", (*MAIN, 9, 9, 3, 3, *(101,) * 4, 5)) == {"y": True}
    assert agent.kept() == {"x", "y on"}
    agent.ask("joined", (*MAIN, 9, 9, 7, 7))
    assert agent.start("joined") == {"x": True, "y on": True}


def test_one_branch_more_joins_nothing_while_the_others_run() -> None:
    agent = Agent()
    agent.run("main", MAIN)
    agent.at_once({"x": (*MAIN, 9, 9, 2, 2), "y": (*MAIN, 9, 9, 3, 3)})
    agent.ask("y on", (*MAIN, 9, 9, 3, 3, *(101,) * 4, 5))
    agent.ask("z", (*MAIN, 9, 9, 4, 4))
    assert agent.start("y on", "z") == {"y": False}
    assert agent.kept() == {"x"}


def test_a_history_written_anew_leaves_the_old_one() -> None:
    agent = Agent()
    agent.run("main", MAIN)
    assert agent.run("anew", (*OPENING, 4, 4)) == {"main": True}
    assert agent.run("anew on", (*OPENING, 4, 4, 9, 9, 5)) == {"anew": True}
    assert agent.kept() == {"anew on"}


def test_a_turn_whose_chat_is_written_anew_is_warm_where_it_finds_what_the_program_has() -> None:
    """Templates leave out what a model thought: such a turn begins with no prompt before it, to the last token."""
    agent = Agent()
    counters = agent.programs.counters
    agent.run("main", (*MAIN, 7))
    agent.ask("warm", (*MAIN, 5, 5, 5, 5))
    agent.start("warm", cached_tokens=len(MAIN) + 2)
    agent.end("warm")
    assert (counters.warm_resumes, counters.cold_resumes) == (1, 0)
    agent.ask("cold", (*MAIN, 6, 6, 6, 6))
    agent.start("cold", cached_tokens=len(OPENING))
    assert (counters.warm_resumes, counters.cold_resumes) == (1, 1)


def test_the_last_call_of_a_program_ends_all_its_branches_and_a_branch_s_last_only_that() -> None:
    agent = Agent()
    agent.run("main", MAIN)
    agent.ask("x", (*OPENING, 2), halo_last=1)
    agent.ask("y", (*OPENING, 3))
    agent.start("x", "y")
    assert not agent.end("x")
    assert agent.end("y")
    assert agent.kept() == {"main", "y"}
    agent.ask("end", (*MAIN, 9, 9, 5), halo_last=1)
    agent.start("end")
    assert not agent.end("end")
    assert agent.outcomes["y"].branch in agent.outcomes["end"].gone
    assert agent.kept() == set()


def test_a_branch_whose_client_went_away_takes_no_other_with_it() -> None:
    agent = Agent()
    agent.at_once({"x": (*OPENING, 2, 2), "y": (*OPENING, 3, 3)})
    agent.ask("x on", (*OPENING, 2, 2, *(100,) * 4, 5))
    agent.start("x on")
    assert not agent.end("x on", aborted=True)
    assert agent.kept() == {"y"}


def test_what_is_told_between_calls_is_of_the_call_answered_last() -> None:
    agent = Agent()
    agent.at_once({"x": (*OPENING, 2, 2), "y": (*OPENING, 3, 3)})
    gone = agent.programs.hinted("", "a", "tool_called", {"halo_tool": "sleep", "halo_eta_s": 500}, agent.now_s)
    assert gone == [agent.outcomes["y"].branch]
    assert agent.kept() == {"x"}
    assert agent.programs.hinted("", "a", "let_go", {}, agent.now_s) == [agent.outcomes["x"].branch]
    assert agent.programs.hinted("", "a", "last_step", {}, agent.now_s) == []


def test_what_branches_share_is_counted_once_when_others_ask_for_room() -> None:
    """Forty blocks that all three have, two of each: 46 of 60, so thirteen and one more are left, but not fourteen."""
    for blocks, fits in ((13, True), (14, False)):
        agent = Agent(60, fill=1.0)
        agent.at_once(dict.fromkeys(("one", "two", "three"), (1,) * 80))
        assert not agent.ask("other", (7,) * (2 * blocks), program="b")
        assert (agent.programs.admitted(agent.now_s, idle=False) == ["other"]) is fits


def test_calls_of_a_new_program_come_in_together_if_all_of_them_fit() -> None:
    """What they share, a block of each, and one more for each to write in."""
    for blocks, let_in in ((54, ["0", "1", "2"]), (55, [])):
        agent = Agent(60, fill=1.0)
        for number in range(3):
            assert not agent.ask(str(number), (*(1,) * (2 * blocks), number, number))
        assert agent.programs.admitted(agent.now_s, idle=False) == let_in


def test_so_many_branches_are_remembered_and_those_that_wait_longest_are_not() -> None:
    agent = Agent()
    calls = [str(number) for number in range(MOST_WAITING + 3)]
    agent.at_once({call: (*OPENING, 10 + number) for number, call in enumerate(calls)})
    assert agent.kept() == set(calls[3:])
    assert [len(agent.outcomes[call].gone) for call in calls[-4:]] == [0, 1, 1, 1]


def test_a_call_that_runs_again_after_it_was_preempted_waits_for_no_turn() -> None:
    """Else it would be taken for the one that has waited longest, in place of one that really waits."""
    agent, limits = Agent(), Limits()
    agent.ask("runs", MAIN)
    agent.start("runs")
    agent.programs.preempted("runs", agent.now_s)
    assert agent.programs.started("runs", 0, agent.now_s) == []
    agent.ask("waits", MAIN, program="b")
    agent.programs.admitted(agent.now_s, idle=False)
    assert agent.programs.aged(agent.now_s + limits.patience_s) == "waits"
    assert agent.programs.aged(agent.now_s + 2 * limits.patience_s) is None
