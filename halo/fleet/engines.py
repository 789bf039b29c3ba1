"""Engines of fleet questions: kinds that could be bought, and those that are there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from executor.engines.port import EngineSpec
from halo.sdk.errors import HaloError
from planner.cost.gpus import GPUS, REFERENCE, Gpu, gpu_named
from planner.cost.model import Replica, kv_tokens, replica_for
from planner.cost.shapes import shape_named
from planner.errors import Problem, problem_lines
from planner.fleet.kinds import DEGREES, EngineKind, kinds_of
from planner.fleet.workload import CallClass, Workload

_CPU = "cpu"


class KindsInvalid(HaloError):
    """Everything wrong with the GPU kinds that were named."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(["these are no engines:", *problem_lines(problems)]))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Counted:
    """A GPU kind with a count, as `H100=4` or `2xH100=4` say it: engines of so many GPUs each. `MODEL:` before it says
    what they serve."""

    gpu: str
    count: int
    degree: int | None = None
    model: str | None = None


def kinds_for(
    workload: Workload, gpus: Sequence[str], prices: Mapping[str, float], most_gpus: int = max(DEGREES)
) -> list[EngineKind]:
    """Every kind of engine of these GPUs, of all where none is named, for each model; and for each tenant whose calls
    to it are kept apart. `gpus` are `NAME` or `NAME=USD`.

    Raises `KindsInvalid`.
    """
    priced = _priced(gpus, prices) if gpus else {gpu.name: (gpu, prices[gpu.name]) for gpu in GPUS if gpu.name != _CPU}
    degrees = [degree for degree in DEGREES if degree <= most_gpus]
    found: list[EngineKind] = []
    for model in workload.models:
        for name, (gpu, usd) in priced.items():
            kinds = list(kinds_of(model, replica_for(gpu.name, model), {name: (gpu, usd)}, degrees))
            found.extend(
                _with_adapters(kind, workload, tenants) for tenants in _keeping(workload, model) for kind in kinds
            )
    return found


def engines_of_fleet(
    workload: Workload, specs: Sequence[EngineSpec], prices: Mapping[str, float]
) -> dict[EngineKind, int]:
    """How many there are of each kind; one that serves several models of the workload counts for the first."""
    engines: dict[EngineKind, int] = {}
    for spec in specs:
        calls = [call for call in workload.calls if spec.serves_tenant(call.tenant)] or workload.calls
        model = next((_model_of(spec, call) for call in calls if not spec.models or call.model in spec.served), None)
        if model is not None:
            kind = _kind_of(spec, model, prices)
            kind = kind if spec.models else _with_adapters(kind, workload, spec.tenants)
            engines[kind] = engines.get(kind, 0) + 1
    return engines


def _model_of(spec: EngineSpec, call: CallClass) -> str:
    return spec.base_of(call.model) if spec.models else call.weights


def engines_had(workload: Workload, had: Sequence[str], prices: Mapping[str, float]) -> dict[EngineKind, int]:
    """`had` are `H100=2` or `2xA100-80=1`; where the workload asks several models, `MODEL:H100=2`.

    Raises `KindsInvalid`.
    """
    counted = read_counts(had)
    problems = tuple(_unclear(workload, one, text) for one, text in zip(counted, had, strict=True))
    if found := tuple(problem for problem in problems if problem):
        raise KindsInvalid(found)
    engines: dict[EngineKind, int] = {}
    for one in counted:
        model = one.model or workload.models[0]
        replica = replica_for(one.gpu, model, one.degree)
        kind = _with_adapters(_named_kind(model, replica, replica.degree * prices[replica.gpu.name]), workload)
        engines[kind] = engines.get(kind, 0) + one.count
    return engines


def _with_adapters(kind: EngineKind, workload: Workload, tenants: tuple[str, ...] = ()) -> EngineKind:
    """It serves whichever the workload asks for."""
    adapters = dict.fromkeys(call.model for call in workload.of_model(kind.model) if call.adapter_of)
    return replace(kind, adapters=tuple(adapters), tenants=tenants)


def _keeping(workload: Workload, model: str) -> list[tuple[str, ...]]:
    """For whom engines with the model may be kept: everybody's come first."""
    calls = workload.of_model(model)
    apart = dict.fromkeys((call.tenant,) for call in calls if call.apart)
    return [*([()] if any(not call.apart for call in calls) else []), *apart]


def _unclear(workload: Workload, one: Counted, text: str) -> Problem | None:
    models = ", ".join(workload.models)
    if one.model is None and len(workload.models) > 1:
        return Problem(text, "it is not said which model it serves", f"write MODEL:{text} with one of {models}")
    if one.model is not None and one.model not in workload.models:
        return Problem(text, f"the workload asks no model {one.model!r}", f"write one of {models}")
    return None


def read_counts(counts: Sequence[str]) -> tuple[Counted, ...]:
    """Raises `KindsInvalid` with everything wrong."""
    read = [_counted(text) for text in counts]
    problems = tuple(one for one in read if isinstance(one, Problem))
    if problems:
        raise KindsInvalid(problems)
    return tuple(one for one in read if isinstance(one, Counted))


def taken_for(workload: Workload) -> list[str]:
    """What is believed of models whose shape is not known, in words."""
    strangers = [model for model in workload.models if shape_named(model) is None]
    return [f"{model} is taken for {replica_for(REFERENCE.name, model).shape.name}" for model in strangers]


def _kind_of(spec: EngineSpec, model: str, prices: Mapping[str, float]) -> EngineKind:
    replica = replica_for(spec.gpu, spec.weights_of.get(model, model), spec.tensor_parallel)
    usd = spec.price_per_hour or replica.degree * prices[replica.gpu.name]
    kind = _named_kind(model, replica, usd)
    measured = f"{kind.name} as measured" if spec.profile is not None else kind.name
    kind = EngineKind(measured, model, replica, usd, spec.profile, spec.kv_tokens, spec.max_running)
    return replace(kind, tenants=spec.tenants, adapters=spec.adapters if spec.models[:1] == (model,) else ())


def _named_kind(model: str, replica: Replica, usd_per_hour: float) -> EngineKind:
    times = f"{replica.degree} x " if replica.degree > 1 else ""
    return EngineKind(f"{times}{replica.gpu.name}", model, replica, usd_per_hour, None, kv_tokens(replica))


def _priced(gpus: Sequence[str], prices: Mapping[str, float]) -> dict[str, tuple[Gpu, float]]:
    found: dict[str, tuple[Gpu, float]] = {}
    problems: list[Problem] = []
    for text in gpus:
        name, given, usd = text.partition("=")
        gpu = gpu_named(name)
        if gpu is None:
            problems.append(_stranger(name))
        elif given and not _is_price(usd):
            problems.append(Problem(text, f"{usd!r} is no price", "write dollars for an hour, as H100=2.50"))
        else:
            found[gpu.name] = gpu, float(usd) if given else prices[gpu.name]
    if problems:
        raise KindsInvalid(tuple(problems))
    return found


def _counted(text: str) -> Counted | Problem:
    model, _, engines = text.rpartition(":")
    name, _, count = engines.partition("=")
    degree, times, kind = name.partition("x") if name[:1].isdigit() else ("", "", name)
    gpu = gpu_named(kind)
    if gpu is None:
        return _stranger(kind or name)
    if not count.isdecimal() or (times and degree not in map(str, DEGREES)):
        return Problem(text, "this is not KIND=COUNT", "write H100=2, or 2xA100-80=2 for engines of two GPUs each")
    return Counted(gpu.name, int(count), int(degree) if times else None, model or None)


def _is_price(text: str) -> bool:
    try:
        return 0 <= float(text) < float("inf")
    except ValueError:
        return False


def _stranger(name: str) -> Problem:
    known = ", ".join(gpu.name for gpu in GPUS)
    return Problem(name, "no GPU kind is called so", f"write one of {known}")
