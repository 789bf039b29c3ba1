"""What a user of this floor can get wrong.

    ExecutorError
    ├── FleetInvalid      a fleet file, an engine's URL or an engine's options that cannot work
    ├── AnswersInvalid    a file of recorded answers that cannot be read
    ├── ProfileInvalid    a profile file that cannot be read, or holds no profile
    ├── NotTokenized      a tokenizer that cannot be had, or cannot take the messages (`executor.tokenization.port`)
    ├── NotMeasured       an engine that did not answer while it was to be measured
    └── EngineNotRunning  the CPU engine of this machine is not built, did not start, or died too often

Each carries every problem at once; a problem says where it is, what it is, and what to do.
"""

from collections.abc import Sequence

from planner.errors import Problem, problem_lines


class ExecutorError(Exception):
    """Any failure of this floor that a user can cause."""

    def __init__(self, headline: str, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join([f"{headline}:", *problem_lines(problems)]))
        self.problems = tuple(problems)


class FleetInvalid(ExecutorError):
    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("these engines cannot be used", problems)


class AnswersInvalid(ExecutorError):
    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("this is not a file of recorded answers", problems)


class ProfileInvalid(ExecutorError):
    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("this is not a profile of an engine", problems)


class NotMeasured(ExecutorError):
    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("the engine cannot be measured", problems)
