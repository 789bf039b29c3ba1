"""`@halo.workflow`: a function becomes a plan that runs inline, over many rows, or on a server."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import update_wrapper
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload

from halo.sdk.client import RunHandle, submit_run
from halo.sdk.definition import WorkflowDefinition, define
from halo.sdk.errors import InputsInvalid, RunFailed
from halo.sdk.explain import Row, explain
from halo.sdk.inline import Model, run_inline
from halo.sdk.job import Job
from halo.sdk.schemas import Misfit, NoJsonForm
from halo.sdk.scope import current_scope
from planner.errors import Problem
from planner.ir.plan import Plan
from planner.ir.render import render_html
from planner.ir.values import Json

P = ParamSpec("P")
R = TypeVar("R")


class Workflow(Generic[P, R]):
    """A workflow. `plan` is what it was compiled to, `tools` the functions it needs where it runs, by name."""

    def __init__(self, function: Callable[P, R], definition: WorkflowDefinition) -> None:
        update_wrapper(self, function)
        self.function = function
        self.plan: Plan = definition.plan
        self.name = definition.plan.name
        self.version = definition.plan.version
        self.tools = definition.tools
        self._definition = definition

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run it inline. Inside another workflow: its steps become steps of that one."""
        if current_scope() is not None:
            return self.function(*args, **kwargs)
        try:
            inputs = inspect.signature(self.function).bind(*args, **kwargs).arguments
        except TypeError as error:
            raise InputsInvalid(self.name, [Problem(self.name, str(error), self._usage())]) from None
        return self.run(**inputs)

    def run(self, *, model: Model | None = None, engine: str | None = None, **inputs: Any) -> R:
        """Run it here and now, one step after the other, without a server; tools run in this process.

        LLM calls go to `model`, a function `(messages, sampling, schema) -> text`, or to the OpenAI-compatible server
        at `engine` or in HALO_ENGINE_URL. Raises `InputsInvalid`, `EngineMissing` or `RunFailed`. In an inline run,
        `timeout` bounds LLM calls and async tools only.
        """
        answer = run_inline(self.plan, self.row(inputs), self.tools, model=model, engine=engine)
        return self.read_result(answer)

    def map(self, rows: Iterable[Row] | str | Path) -> Job:
        """A job: this workflow on every row. `rows` are mappings of inputs, or a file of them."""
        return Job(self, rows)

    def submit(
        self,
        *,
        url: str | None = None,
        idempotency_key: str | None = None,
        deadline_s: float | None = None,
        slo: str | None = None,
        on_late: str | None = None,
        **inputs: Any,
    ) -> RunHandle:
        """Hand one run to the Halo server at `url` or in HALO_URL. Raises `InputsInvalid` or `ServerFailed`.

        The server must know the workflow by its name. The same `idempotency_key` never makes a second run; without one,
        each call is its own run. It should be done `deadline_s` seconds from now; `slo` says how urgent it is:
        interactive, standard, batch or background. A run that cannot meet its deadline is turned away, made less urgent
        or taken all the same: `on_late` is `reject`, `degrade` or `accept`.
        """
        said = {"deadline_s": deadline_s, "slo": slo, "on_late": on_late}
        return submit_run(
            self.name,
            self.row(inputs),
            url=url,
            idempotency_key=idempotency_key,
            read=self.read_result,
            promised={name: value for name, value in said.items() if value is not None},
        )

    def explain(self, rows: Iterable[Row] | str | Path | None = None, *, engines: Any = None) -> str:
        """What will be run, without running anything: the plan, and for given rows, or a file of them, how often each
        step is called, and what time and money that takes.

        Times are for `engines` as `.map(rows).run(engines=...)` takes them, or those in HALO_FLEET or HALO_ENGINE_URL;
        without any, for one A100 with 80 GB.
        """
        return explain(self, Path(rows) if isinstance(rows, str) else rows, engines)

    def row(self, inputs: Mapping[str, Any]) -> dict[str, Json]:
        """`inputs` as JSON columns, defaults filled in. Raises `InputsInvalid` with everything that does not fit."""
        problems: list[Problem] = []
        row: dict[str, Json] = {}
        known = {column.name: column for column in self.plan.inputs}
        for name in inputs:
            if name not in known:
                problems.append(Problem(name, "there is no such input", self._usage()))
        for name, column in known.items():
            if name in inputs:
                self._read_input(name, inputs[name], row, problems)
            elif column.default is not None:
                row[name] = column.default.value
            else:
                problems.append(Problem(name, "is missing", self._usage()))
        if problems:
            raise InputsInvalid(self.name, problems)
        return row

    def read_result(self, answer: Json) -> R:
        """The result as the return type says: models and dataclasses are built, all else is JSON as it is."""
        adapter = self._definition.result
        if adapter is None:
            return cast(R, answer)
        try:
            return cast(R, adapter.read(answer))
        except Misfit as misfit:
            raise RunFailed("bad_result", f"the result of {self.name!r} does not fit its type: {misfit}") from None

    def __repr__(self) -> str:
        return f"<halo workflow {self.name}{inspect.signature(self.function)}>"

    def _repr_html_(self) -> str:
        return render_html(self.plan)

    def _read_input(self, name: str, value: Any, row: dict[str, Json], problems: list[Problem]) -> None:
        adapter = self._definition.inputs[name]
        try:
            row[name] = adapter.write(adapter.read(value))
        except Misfit as misfit:
            problems.append(Problem(name, str(misfit), "give a value of its type"))
        except NoJsonForm as error:
            problems.append(Problem(name, f"cannot be written as JSON: {error}", "give a JSON value"))

    def _usage(self) -> str:
        return f"the inputs are {inspect.signature(self.function)}"


@overload
def workflow(function: Callable[P, R], /) -> Workflow[P, R]: ...


@overload
def workflow(*, name: str | None = ..., version: str = ...) -> Callable[[Callable[P, R]], Workflow[P, R]]: ...


def workflow(function: Callable[..., Any] | None = None, /, *, name: str | None = None, version: str = "1") -> Any:
    """Make a function a workflow.

    The function runs once, now, on symbolic values; the steps it calls become a plan. Its type hints say what inputs
    look like, defaults must be JSON. Raises `WorkflowInvalid` with everything wrong, each with its line and the fix.
    """

    def decorate(function: Callable[P, R]) -> Workflow[P, R]:
        return Workflow(function, define(function, name or function.__name__, version))

    return decorate if function is None else decorate(function)
