"""What can go wrong in a user's program.

    HaloError
    ├── DefinitionInvalid       what was decorated cannot become a plan
    │   ├── WorkflowInvalid
    │   ├── LlmInvalid
    │   └── ToolInvalid
    ├── ArgumentsInvalid        a tool was given arguments that do not fit its types
    ├── InputsInvalid           a workflow was given inputs that do not fit its types
    ├── OutsideWorkflow         something that only has a meaning inside a workflow was called outside of one
    ├── EngineMissing           a workflow with LLM calls was run, and nothing was named to answer them
    ├── RunFailed               a program ran and failed; `code` is stable
    ├── WorkflowNotFound        no workflow goes by that reference
    ├── NotRun                  a job was to be analyzed that was not run
    ├── SchedulerMissing        the part of Halo that runs jobs is not installed
    └── ServerFailed            a Halo server could not be reached, or refused
        └── WaitTimedOut        the run is not finished yet

A `DefinitionInvalid` carries every problem at once; each says where (`file:line`), what, and what to do.
"""

from collections.abc import Sequence

from planner.errors import Problem, count_of


class HaloError(Exception):
    """Any failure of Halo that its user can cause."""


class DefinitionInvalid(HaloError):
    """`problems` holds everything that is wrong, in the order of the code."""

    def __init__(self, kind: str, name: str, problems: Sequence[Problem]) -> None:
        super().__init__(_tell(f"{kind} {name!r}", problems))
        self.problems = tuple(problems)


class WorkflowInvalid(DefinitionInvalid):
    def __init__(self, name: str, problems: Sequence[Problem]) -> None:
        super().__init__("workflow", name, problems)


class LlmInvalid(DefinitionInvalid):
    def __init__(self, name: str, problems: Sequence[Problem]) -> None:
        super().__init__("llm", name, problems)


class ToolInvalid(DefinitionInvalid):
    def __init__(self, name: str, problems: Sequence[Problem]) -> None:
        super().__init__("tool", name, problems)


class ArgumentsInvalid(HaloError):
    """The text names each argument that does not fit, so that a model can learn from it."""


class InputsInvalid(HaloError):
    def __init__(self, name: str, problems: Sequence[Problem]) -> None:
        super().__init__(_tell(f"the inputs of workflow {name!r}", problems))
        self.problems = tuple(problems)


class OutsideWorkflow(HaloError):
    pass


class EngineMissing(HaloError):
    pass


class RunFailed(HaloError):
    """`code` is stable, `message` is for people. The cause, where there is one, is the tool's own exception."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class WorkflowNotFound(HaloError):
    pass


class NotRun(HaloError):
    """There is nothing to analyze yet."""


class SchedulerMissing(HaloError):
    pass


class ServerFailed(HaloError):
    """`status` is the HTTP status, or None when there was no answer."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class WaitTimedOut(ServerFailed):
    pass


def _tell(subject: str, problems: Sequence[Problem]) -> str:
    lines = [f"  {problem.where}: {problem.what}\n      fix: {problem.fix}" for problem in problems]
    return "\n".join([f"{subject}: {count_of(problems)}", *lines])
