"""What comes in and goes out over HTTP. Pydantic models live here and nowhere else in the service."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

PRIORITIES = {"interactive": -100, "standard": 0, "batch": 100, "background": 200}

Priority = (
    Annotated[int, Field(ge=-1000, le=1000, strict=True)] | Literal["interactive", "standard", "batch", "background"]
)
Slo = Literal["interactive", "standard", "batch", "background"]
OnLate = Literal["reject", "degrade", "accept"]
MOST_DEADLINE_S = 30 * 24 * 3600.0
Row = dict[str, Any]


class _Given(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True)


class PlanSource(_Given):
    """What to run: a registered workflow by name, or a plan as `planner.ir.codec` writes it."""

    workflow: Annotated[str | None, Field(max_length=200, description="the name of a registered workflow")] = None
    plan: Annotated[dict[str, Any] | None, Field(description='a plan: `{"format": 1, "plan": {...}}`')] = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "PlanSource":
        if (self.workflow is None) == (self.plan is None):
            fix = "name a registered workflow, or send a plan"
            raise PydanticCustomError("one_of", "needs either 'workflow' or 'plan'", {"fix": fix})
        return self


class RunRequest(PlanSource):
    """One program to run. Lower priority numbers go first among runs of a class.

    One that cannot meet its deadline is told so with 503 where `on_late` is `reject`; with `degrade` it is taken as of
    the next less urgent class, with `accept` as it is.
    """

    input: Annotated[Row, Field(description="one value for each input of the plan")] = Field(default_factory=dict)
    priority: Priority = "standard"
    metadata: Annotated[Row, Field(description="kept with the run and given back")] = Field(default_factory=dict)
    cache: Annotated[bool, Field(description="whether results of earlier runs may be used, and this one's kept")] = True
    slo: Annotated[Slo | None, Field(description="how urgent it is; without it, as its priority is called")] = None
    deadline_s: Annotated[
        float | None, Field(gt=0, le=MOST_DEADLINE_S, description="when it should be done, in seconds from acceptance")
    ] = None
    on_late: Annotated[OnLate, Field(description="what becomes of it when it cannot meet its deadline")] = "accept"


class PlanRequest(PlanSource):
    """What to explain, and for which rows."""

    rows: Annotated[list[Row] | None, Field(description="rows to plan for; nothing is run")] = None


class Links(_Told):
    run: str
    wait: str
    events: str
    cancel: str


class RunAccepted(_Told):
    """The run is stored and will be done. The same idempotency key gets the same answer."""

    id: str
    workflow: str
    status: Literal["queued"] = "queued"
    created_at: str
    links: Links


class RunError(_Told):
    """Why a run failed. `code` is stable, `message` is for people."""

    code: str
    message: str
    kind: str


class Doing(_Told):
    """What a running program does right now. `since` is in seconds since 1970."""

    program: str
    node: str
    doing: str
    since: float
    engine: str | None
    turns: int
    attained_tokens: int


class RunDeadline(_Told):
    """When the run should be done, in seconds from its acceptance; once it has ended, what it took and whether it met
    that. `left_s` is what was left, below 0 where it was missed."""

    deadline_s: float
    took_s: float | None = None
    met: bool | None = None
    left_s: float | None = None


class RunSummary(_Told):
    """A run as it stands. `counts` has its programs by status; times are UTC."""

    id: str
    workflow: str
    status: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    priority: int
    rows: int
    counts: dict[str, int]
    metadata: Row
    created_at: str
    started_at: str | None
    ended_at: str | None
    cancel_requested: bool
    slo: str
    deadline: RunDeadline | None
    links: Links


class Run(RunSummary):
    """`result` is there when the run succeeded, `error` when it failed, `live` while it runs; `usage` is what it took
    so far, and what sharing saved it.

    A run of several rows, which the batch runner made, tells only its counts.
    """

    result: Any = None
    error: RunError | None = None
    live: list[Doing] = Field(default_factory=list)
    usage: dict[str, int] = Field(default_factory=dict)


class RunPage(_Told):
    """Newest first. `next_cursor` asks for the page after this one; it is null on the last."""

    runs: list[RunSummary]
    next_cursor: str | None


class RunEvent(_Told):
    """`seq` grows with every event; ask for those after the last you have."""

    seq: int
    kind: str
    at: str
    row: int | None
    detail: Any = None


class EventPage(_Told):
    events: list[RunEvent]
    next_after: int


class EngineConsidered(_Told):
    """What one engine would have done for the call, in predicted seconds: the work before it, the part of its prompt
    that was not warm, its answer. `room` tells whether it could have begun at once."""

    engine: str
    queue_s: float
    prefill_s: float
    decode_s: float
    done_s: float
    prompt_tokens: int
    warm_tokens: int
    running: int
    room: bool


class RunDecision(_Told):
    """An attempt of the node at `path` of a row was sent to `engine` after it had waited `waited_s`, and why.

    `engines` were considered; `considered` has the best of them, in the order in which they would have been done.
    `after` says how the attempt before failed.
    """

    seq: int
    at: str
    row: int
    path: str
    attempt: int
    engine: str
    reason: str
    waited_s: float
    engines: int
    considered: list[EngineConsidered]
    after: str = ""


class RunDoing(_Told):
    """What a row does now, or why it waits. Its path is empty before it has begun."""

    row: int
    path: str
    attempt: int
    waits: bool
    why: str
    engine: str | None


class DecisionPage(_Told):
    """In the order the decisions were made; `next_after` asks for those after the last.

    Of a run of many rows they are kept of every `every`-th row, and of calls that were tried again; 0 says that none
    are kept. `now` tells what the run's calls and tools do, and why what waits does, while it runs in the process that
    is asked.
    """

    decisions: list[RunDecision]
    next_after: int
    every: int
    now: list[RunDoing] = Field(default_factory=list)


class WorkflowSummary(_Told):
    name: str
    version: str
    stages: int


class WorkflowList(_Told):
    workflows: list[WorkflowSummary]


class WorkflowDetails(WorkflowSummary):
    """`inputs` is a JSON schema of a run's input; `plan` is the text people read, `document` the plan as JSON."""

    inputs: Row
    models: list[str]
    tools: list[str]
    plan: str
    document: Row


class PlanExplained(_Told):
    """`plan` is the plan as it was written, for people. For given rows, `forecast` has what they ask for before and
    after merging, stage by stage, with engine time and money on the engines of this service, and `text` the same for
    people; calls are bounds, tokens and times are estimates.
    """

    name: str
    version: str
    models: list[str]
    tools: list[str]
    plan: str
    notes: list[str] = Field(default_factory=list)
    forecast: Row | None = None
    text: str | None = None


class JobAnalyzed(_Told):
    """What was predicted of a job beside what became of it: `analysis` stage by stage, `text` the same for people.

    `seconds` is from the begin of its first call or tool to the end of the last.
    """

    id: str
    rows: int
    rows_ended: int
    seconds: float
    analysis: Row
    text: str


class EngineState(_Told):
    id: str
    kind: str
    gpu: str
    models: list[str]
    max_running: int
    context_tokens: int
    price_per_hour: float
    ready: bool
    version: str
    detail: str
    retention: Annotated[str, Field(description="how it keeps the KV of programs that wait for a tool")]
    hints: Annotated[dict[str, int], Field(description="what it was told between calls: taken, and dropped and why")]


class EngineList(_Told):
    engines: list[EngineState]


class FleetSignal(_Told):
    """One model, in tokens for each second: `prefill` are prompt tokens that are not cached, `decode` those written.

    What is possible is the load at which calls leave the bounds asked for, in the mix that was seen; `load` is what was
    seen as a part of it. `engines_wanted` are of the kinds there are. Where nothing was seen, the last three are null.
    """

    model: str
    engines: int
    calls_per_s: float
    prefill_demanded: float
    decode_demanded: float
    prefill_possible: float | None = None
    decode_possible: float | None = None
    load: float | None = None
    engines_wanted: int | None = None
    note: str = ""


class FleetSignals(_Told):
    """Of what engines answered in the last `window_s` seconds: runs of every replica, and calls through this one."""

    window_s: float
    target_load: float
    models: list[FleetSignal]


class TuningFound(_Told):
    """What the newest candidate costs of what the setting in force costs, on the newest traffic: with its interval."""

    ratio: float
    low: float
    high: float
    samples: int


class Tuning(_Told):
    """How the scheduler's knobs stand. Without `on` they stay as the process began; `why` is what was found last."""

    on: bool
    setting: dict[str, float] = Field(default_factory=dict)
    began: dict[str, float] = Field(default_factory=dict)
    looks: int = 0
    changes: int = 0
    rollbacks: int = 0
    why: str = ""
    found: TuningFound | None = None
    watching: bool = False


class Check(_Told):
    ready: bool
    detail: str


class Readiness(_Told):
    """Whether runs are taken and worked on, and what each part says."""

    ready: bool
    database: Check
    state: Check
    engines: Check


class Alive(_Told):
    alive: Literal[True] = True


class ProblemPlace(_Told):
    where: str
    what: str
    fix: str


class ProblemDocument(_Told):
    """RFC 9457. `type` is stable; `problems` tells everything that is wrong at once."""

    type: str
    title: str
    status: int
    detail: str
    problems: list[ProblemPlace] = Field(default_factory=list)
    problems_total: int = 0


class _Passing(BaseModel):
    """What Halo reads of a call in OpenAI's shape. All other fields pass on to the engine as they are."""

    model_config = ConfigDict(extra="allow", strict=True)

    model: Annotated[str, Field(min_length=1, max_length=512)]
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=0)] | None = None
    metadata: dict[str, Any] | None = None
    vllm_xargs: dict[str, Any] | None = None
    session_id: str | None = None
    cache_salt: str | None = None


class ChatMessage(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    role: str
    content: str | list[Any] | None = None
    tool_calls: list[dict[str, Any]] | None = None


class ChatCall(_Passing):
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    tools: list[dict[str, Any]] | None = None
    response_format: dict[str, Any] | None = None


class CompletionCall(_Passing):
    """`prompt` is a text, token ids, or a list of either."""

    prompt: str | list[Any]

    @field_validator("prompt")
    @classmethod
    def _of_one_kind(cls, prompt: str | list[Any]) -> str | list[Any]:
        if isinstance(prompt, list) and not _is_prompt_list(prompt):
            raise PydanticCustomError("prompt", "must be a text, token ids, or a list of either", {"fix": "send one"})
        return prompt


def _is_prompt_list(prompt: list[Any]) -> bool:
    return bool(prompt) and (_are_ids(prompt) or all(isinstance(one, str) or _are_ids(one) for one in prompt))


def _are_ids(values: Any) -> bool:
    """Booleans are no token ids, though Python counts with them."""
    return isinstance(values, list) and bool(values) and all(type(one) is int and 0 <= one < 2**31 for one in values)


class ModelCard(_Told):
    """A model, as OpenAI's API tells of it; `max_model_len` is vLLM's own."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "halo"
    max_model_len: int


class ModelList(_Told):
    object: Literal["list"] = "list"
    data: list[ModelCard]


class OpenAIError(_Told):
    message: str
    type: str
    param: str | None = None
    code: str | int | None = None


class OpenAIErrorDocument(_Told):
    """Every error of OpenAI's addresses."""

    error: OpenAIError
