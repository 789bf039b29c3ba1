"""What can go wrong while planning.

    PlanError
    ├── PlanUnreadable    the text is no plan: not JSON, an unknown version, unknown fields, wrong types
    ├── PlanInvalid       a plan that reads well and could not run
    ├── RowsInvalid       rows that do not fit the inputs of their plan
    └── FleetImpossible   no fleet of the engines allowed can do what is asked

Each carries every problem at once, and a problem says where it is, what it is, and what to do.
"""

from collections.abc import Sequence
from dataclasses import dataclass

_SHOWN_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class Problem:
    """`where` names a place in the user's plan or rows, `what` is wrong with it, `fix` says what to do."""

    where: str
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}; {self.fix}"


class PlanError(Exception):
    """Any failure of this floor that a user can cause."""

    def __init__(self, headline: str, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join([f"{headline} ({count_of(problems)}):", *problem_lines(problems)]))
        self.problems = problems


class PlanUnreadable(PlanError):
    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("this is not a plan", problems)


class PlanInvalid(PlanError):
    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("this plan cannot run", problems)


class RowsInvalid(PlanError):
    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("these rows do not fit the plan", problems)


class FleetImpossible(PlanError):
    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("no fleet can do this", problems)


def count_of(problems: Sequence[Problem]) -> str:
    """`1 problem`, `2 problems`."""
    return f"{len(problems)} problem{'s'[: len(problems) != 1]}"


def problem_lines(problems: Sequence[Problem]) -> list[str]:
    """An indented line for each, as far as a person reads; the rest are counted."""
    lines = [f"  {problem}" for problem in problems[:_SHOWN_PROBLEMS]]
    if len(problems) > _SHOWN_PROBLEMS:
        lines.append(f"  ... and {len(problems) - _SHOWN_PROBLEMS} more")
    return lines
