"""How long prompts and answers of each step are, as published of the recorded requests: enough to draw requests of our
own, and what every rule is told beforehand.

Prompts are a template, then the schema with the question, then what is of one call: the sizes of the templates follow
from the differences of recorded prompts (9,158 and 5,292 tokens of the two candidates, 3,059 of a revision). What of
the others is the same in all prompts is estimated from the share of templates in all prompt tokens, 44 to 62 %.
"""

from dataclasses import dataclass
from random import Random

from benchmarks.scheduling.requests import Step
from planner.cost.quantiles import Quantiles

#: The mean (prompt, answer) of each step by which HexGen's published code reckons every call.
PUBLISHED_MEANS = {
    Step.RETRIEVER: (308, 5),
    Step.KEYWORDS: (667, 45),
    Step.CANDIDATE: (11_748, 678),
    Step.REVISE: (5_963, 79),
    Step.TESTER: (275, 4),
    Step.UNIT_TEST: (1_109, 103),
    Step.EVALUATE: (961, 22),
}
#: The steps of a usual request, whose seconds add up to the published base of all deadlines.
PUBLISHED_REQUEST = (
    Step.RETRIEVER,
    Step.KEYWORDS,
    *3 * (Step.RETRIEVER,),
    Step.CANDIDATE,
    *4 * (Step.REVISE,),
    Step.TESTER,
    Step.UNIT_TEST,
    Step.TESTER,
    Step.EVALUATE,
    Step.TESTER,
)
CANDIDATE_TEMPLATES = (9_158, 5_292)
REVISE_TEMPLATE = 3_059
#: Tokens at the beginning that all prompts of a step have in common.
SHARED_BY_ALL = {
    Step.RETRIEVER: 290,
    Step.KEYWORDS: 580,
    Step.REVISE: 2_875,
    Step.TESTER: 265,
    Step.UNIT_TEST: 64,
    Step.EVALUATE: 64,
}
CANDIDATES_SHARED_BY_ALL = (9_066, 5_239)
#: Tokens at the end in which two revisions, or two evaluations, of one request differ.
OWN_TAIL = {Step.REVISE: 250, Step.EVALUATE: 110}


@dataclass(frozen=True, slots=True)
class Spread:
    """A distribution by its least, its median, the one in twenty above it, and its most. In between it is straight, or
    hangs below that the more the greater `bend` is: most answers above the median are hardly above it."""

    least: float
    p50: float
    p95: float
    most: float
    bend: float = 1.0

    def draw(self, random: Random) -> int:
        share = random.random()
        if share < 0.5:
            return round(self.least + (self.p50 - self.least) * share / 0.5)
        if share < 0.95:
            return round(self.p50 + (self.p95 - self.p50) * ((share - 0.5) / 0.45) ** self.bend)
        return round(self.p95 + (self.most - self.p95) * ((share - 0.95) / 0.05) ** self.bend)


@dataclass(frozen=True, slots=True)
class Database:
    """What requests on one database look like. `schema` are the tokens of schema, question and hint."""

    schema: Spread
    prompts: dict[Step, Spread]
    answers: dict[Step, Spread]
    keywords: float  # the share of requests that ask for them
    unit_tests: float
    evaluations: tuple[int, ...]  # how many there may be, each as likely
    revised: float  # the share that is revised at all
    revisions: Spread  # of those


_PROMPTS = {
    Step.RETRIEVER: Spread(301, 306, 312, 312),
    Step.KEYWORDS: Spread(634, 661, 702, 750),
    Step.TESTER: Spread(271, 275, 278, 278),
}
_ANSWERS = {
    Step.RETRIEVER: Spread(4, 5, 31, 46, bend=10),
    Step.KEYWORDS: Spread(12, 40, 80, 119),
    Step.TESTER: Spread(4, 4, 6, 6),
}
FINANCIAL = Database(
    schema=Spread(2577, 2760, 3000, 3128),
    prompts={**_PROMPTS, Step.UNIT_TEST: Spread(629, 965, 1375, 3320), Step.EVALUATE: Spread(508, 839, 1206, 3177)},
    answers={
        **_ANSWERS,
        Step.CANDIDATE: Spread(331, 548, 888, 1012),
        Step.REVISE: Spread(11, 82, 1010, 1078, bend=3),
        Step.UNIT_TEST: Spread(31, 91, 131, 153),
        Step.EVALUATE: Spread(22, 22, 74, 357, bend=6),
    },
    keywords=0.85,
    unit_tests=0.93,
    evaluations=(0, 3, 4, 4, 5, 5, 5, 6, 6),
    revised=0.25,
    revisions=Spread(1, 2, 8, 10),
)
FORMULA1 = Database(
    schema=Spread(4545, 4760, 4900, 4973),
    prompts={**_PROMPTS, Step.UNIT_TEST: Spread(716, 1082, 1456, 1553), Step.EVALUATE: Spread(608, 1034, 1415, 1909)},
    answers={
        **_ANSWERS,
        Step.CANDIDATE: Spread(340, 555, 1009, 1026),
        Step.REVISE: Spread(11, 124, 185, 312),
        Step.UNIT_TEST: Spread(31, 85, 157, 245),
        Step.EVALUATE: Spread(22, 22, 112, 177, bend=6),
    },
    keywords=0.9,
    unit_tests=1.0,
    evaluations=(3, 4, 4, 5, 5, 5, 6, 8),
    revised=0.4,
    revisions=Spread(1, 3, 8, 9),
)
#: What is between the schema and the end of a revision's prompt: the query and what came of it.
REVISION_TAIL = Spread(60, 100, 250, 1100)


def told_lengths(step: Step) -> Quantiles:
    """Of answers, as the plan of a request is submitted with them: from both databases' figures."""
    known = [database.answers[step] for database in (FINANCIAL, FORMULA1)]
    p50, p95 = (sum(getattr(one, name) for one in known) / len(known) for name in ("p50", "p95"))
    least = min(one.least for one in known)
    return Quantiles(least + (p50 - least) * 0.2, p50, p50 + (p95 - p50) * 0.4 / 0.45)
