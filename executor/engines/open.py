"""From an engine's spec to the engine."""

import os
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

from executor.clock import Clock, ScaledClock, WallClock
from executor.engines.answers import Answers, FromFunction
from executor.engines.modelled import Modelled
from executor.engines.options import (
    FUNCTION_REFERENCE,
    OPTIONS,
    HttpOptions,
    ModelledOptions,
    ScriptedOptions,
    spec_problems,
)
from executor.engines.port import Engine, EngineSpec
from executor.engines.recorded import Recording, read_recorded
from executor.engines.scripted import Scripted
from executor.engines.synthetic import Synthetic
from executor.engines.upstream import Upstream
from executor.engines.upstream_engine import EngineUpstream
from executor.engines.upstream_http import HttpUpstream
from executor.engines.vllm_http import VllmHttp
from executor.errors import FleetInvalid
from planner.errors import Problem


def open_engine(spec: EngineSpec, *, clock: Clock | None = None, environ: Mapping[str, str] = os.environ) -> Engine:
    """The engine a spec describes; nothing is connected yet. A modelled one runs on `clock`, else on its own scale.

    Raises `FleetInvalid` with everything that is wrong with the spec, or `AnswersInvalid`.
    """
    problems = spec_problems(spec)
    if problems:
        raise FleetInvalid(problems)
    return _KINDS[spec.kind](spec, clock, environ)


def open_upstream(engine: Engine, environ: Mapping[str, str] = os.environ) -> Upstream:
    """Hands requests in OpenAI's shape through to an engine."""
    spec = engine.spec
    if OPTIONS[spec.kind] is HttpOptions:
        return HttpUpstream(spec, api_key=api_key_of(spec, environ))
    return EngineUpstream(engine)


def _http(spec: EngineSpec, _: Clock | None, environ: Mapping[str, str]) -> Engine:
    options = HttpOptions.model_validate(spec.options)
    engine = VllmHttp(spec, api_key=api_key_of(spec, environ))
    return Recording(engine, Path(options.record)) if options.record else engine


def _modelled(spec: EngineSpec, clock: Clock | None, _: Mapping[str, str]) -> Engine:
    options = ModelledOptions.model_validate(spec.options)
    return Modelled(spec, open_answers(spec, options), clock or ScaledClock(options.scale))


def _scripted(spec: EngineSpec, clock: Clock | None, _: Mapping[str, str]) -> Engine:
    options = ScriptedOptions.model_validate(spec.options)
    return Scripted(spec, open_answers(spec, options), clock=clock or WallClock())


_KINDS: dict[str, Callable[[EngineSpec, Clock | None, Mapping[str, str]], Engine]] = {
    "vllm": _http,
    "openai": _http,
    "modelled": _modelled,
    "scripted": _scripted,
}


def open_answers(spec: EngineSpec, options: ScriptedOptions) -> Answers:
    """Who answers for an engine that computes nothing. Raises `FleetInvalid` or `AnswersInvalid`."""
    if options.answers is None:
        return Synthetic(options.seed)
    if not FUNCTION_REFERENCE.fullmatch(options.answers):
        return read_recorded(Path(options.answers))
    module, _, name = options.answers.partition(":")
    try:
        function = getattr(import_module(module), name)
    except (ImportError, AttributeError) as problem:
        raise _invalid(spec, f"options.answers: {problem}", "write `module:function` as Python imports it") from None
    if not callable(function):
        raise _invalid(spec, f"options.answers: {options.answers} is no function", "name a function of one request")
    return FromFunction(function)


def api_key_of(spec: EngineSpec, environ: Mapping[str, str]) -> str:
    """Of an engine behind HTTP; empty where it asks for none. Raises `FleetInvalid` where the environment lacks it."""
    options = HttpOptions.model_validate(spec.options)
    if options.api_key_env is None:
        return ""
    key = environ.get(options.api_key_env, "")
    if not key:
        what = f"options.api_key_env: the environment variable {options.api_key_env} is not set"
        raise _invalid(spec, what, "set it to the engine's API key, or remove the option")
    return key


def _invalid(spec: EngineSpec, what: str, fix: str) -> FleetInvalid:
    return FleetInvalid([Problem(f"engine {spec.id!r}", what, fix)])
