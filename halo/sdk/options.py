"""The options of LLM calls: what users write, checked, as what the plan holds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from halo.sdk.durations import seconds
from halo.sdk.lower import constant
from halo.sdk.schemas import Adapter, Misfit, NoJsonForm
from planner.ir.bounds import stage_problems
from planner.ir.expressions import Concat
from planner.ir.ids import StageId
from planner.ir.plan import Fallback, Generate, Message, Sampling

#: Takes what is wrong, and the fix.
Report = Callable[[str, str], None]


class LlmOptions(TypedDict, total=False):
    """`timeout` bounds one call: seconds, or a text like "300s". `fallback` is the answer when all `retries` failed."""

    model: str
    temperature: float
    top_p: float
    max_tokens: int
    seed: int | None
    stop: str | Sequence[str]
    timeout: str | float
    retries: int
    fallback: Any


_SAMPLING = Sampling()


@dataclass(frozen=True, slots=True)
class CallSettings:
    model: str = ""
    sampling: Sampling = _SAMPLING
    timeout_s: float = 300.0
    retries: int = 2
    fallback: Fallback | None = None


def read_options(options: LlmOptions, base: CallSettings, answer: Adapter | None, report: Report) -> CallSettings:
    """`base` with `options` over it, or `base` itself when something is wrong; everything wrong is reported."""
    reader = _Reader(options, report)
    settings = CallSettings(
        model=reader.text("model", base.model),
        sampling=reader.sampling(base.sampling),
        timeout_s=reader.timeout(base.timeout_s),
        retries=reader.count("retries", base.retries),
        fallback=reader.fallback(base.fallback, answer),
    )
    reader.check_names()
    reader.check_bounds(settings)
    return settings if reader.sound else base


def read_timeout(timeout: str | float, report: Report) -> float:
    try:
        return seconds(timeout)
    except ValueError as error:
        report(f"timeout: {error}", 'write seconds above 0, or a text like "150ms", "30s", "5m", "1h"')
        return 1.0


def read_count(name: str, count: Any, report: Report) -> int:
    if isinstance(count, int) and not isinstance(count, bool):
        return count
    report(f"{name} is {count!r}", "give a whole number")
    return 1


def read_fallback(value: Any, answer: Adapter | None, report: Report) -> Fallback | None:
    """`answer` is the type the fallback stands in for; None when that is text. None itself always fits."""
    try:
        data = constant(value)
        if answer is not None and data is not None:
            answer.read(data)
    except NoJsonForm:
        report(
            f"fallback is of type {type(value).__name__}, which cannot be written as JSON", "give a constant JSON value"
        )
        return None
    except Misfit as misfit:
        report(f"fallback does not fit the type of the answer: {misfit}", "give a value of that type")
        return None
    if answer is None and not isinstance(data, str | None):
        report(f"fallback is {data!r}, but the answer is a text", "give a text, or set output=")
    return Fallback(data)


class _Reader:
    def __init__(self, options: LlmOptions, report: Report) -> None:
        self._options: dict[str, Any] = {**options}
        self._report = report
        self.sound = True

    def report(self, what: str, fix: str) -> None:
        self.sound = False
        self._report(what, fix)

    def text(self, name: str, base: str) -> str:
        found = self._options.get(name, base)
        if name in self._options and not (isinstance(found, str) and found):
            self.report(f"{name} is {found!r}", 'name it as the engines serve it: model="qwen3-8b"')
            return base
        return str(found)

    def sampling(self, base: Sampling) -> Sampling:
        seed = self._options.get("seed", base.seed)
        return Sampling(
            temperature=self._number("temperature", base.temperature),
            top_p=self._number("top_p", base.top_p),
            max_tokens=self.count("max_tokens", base.max_tokens),
            seed=None if seed is None else self.count("seed", seed),
            stop=self._stop(base.stop),
        )

    def timeout(self, base: float) -> float:
        return read_timeout(self._options["timeout"], self.report) if "timeout" in self._options else base

    def count(self, name: str, base: int) -> int:
        return read_count(name, self._options[name], self.report) if name in self._options else base

    def fallback(self, base: Fallback | None, answer: Adapter | None) -> Fallback | None:
        return read_fallback(self._options["fallback"], answer, self.report) if "fallback" in self._options else base

    def check_names(self) -> None:
        known = LlmOptions.__annotations__
        for name in self._options:
            if name not in known:
                self.report(f"there is no option {name!r}", f"the options are: {', '.join(known)}")

    def check_bounds(self, settings: CallSettings) -> None:
        if not self.sound:
            return
        stage = Generate(
            id=StageId("call"),
            model=settings.model or "unnamed",
            messages=(Message("user", Concat(())),),
            sampling=settings.sampling,
            timeout_s=settings.timeout_s,
            retries=settings.retries,
        )
        for problem in stage_problems(stage, "call"):
            self.report(f"{problem.where.rpartition('.')[2]} {problem.what}", problem.fix)

    def _number(self, name: str, base: float) -> float:
        found = self._options.get(name, base)
        if isinstance(found, int | float) and not isinstance(found, bool):
            return float(found)
        self.report(f"{name} is {found!r}", "give a number")
        return base

    def _stop(self, base: tuple[str, ...]) -> tuple[str, ...]:
        found = self._options.get("stop", base)
        texts = (found,) if isinstance(found, str) else found
        if isinstance(texts, list | tuple) and all(isinstance(text, str) for text in texts):
            return tuple(texts)
        self.report(f"stop is {found!r}", 'give a text or a list of texts: stop=["\\n\\n"]')
        return base
