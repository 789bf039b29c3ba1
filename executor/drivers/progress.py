"""How far a job is, in numbers a person can follow."""

from dataclasses import dataclass

from executor.commands import Status
from executor.engines.port import Usage
from executor.store.writes import Work


@dataclass(slots=True)
class Progress:
    """`before` rows had ended when this process took the job; calls and tokens count this process's alone.

    `saved_calls` and `saved_prompt_tokens` are what running every call as written would have taken more;
    `recalled_calls` of them are known from earlier jobs.
    """

    rows: int
    ended: int = 0
    before: int = 0
    failed: int = 0
    calls: int = 0
    tools: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    saved_calls: int = 0
    saved_tools: int = 0
    saved_prompt_tokens: int = 0
    saved_output_tokens: int = 0
    recalled_calls: int = 0
    recalled_tools: int = 0

    def called(self, usage: Usage) -> None:
        self.calls += 1
        self.prompt_tokens += usage.prompt_tokens
        self.cached_tokens += usage.cached_tokens
        self.output_tokens += usage.output_tokens

    def saved(self, work: Work) -> None:
        """A node took another's output instead of doing its work itself."""
        self.saved_calls += work.calls
        self.saved_tools += work.tools
        self.saved_prompt_tokens += work.prompt_tokens
        self.saved_output_tokens += work.output_tokens

    def recalled(self, work: Work) -> None:
        """A node took what an earlier job gave."""
        self.saved(work)
        self.recalled_calls += work.calls
        self.recalled_tools += work.tools

    def end(self, status: Status) -> None:
        self.ended += 1
        self.failed += status is not Status.SUCCEEDED
