"""Whether a fleet can run a plan at all: told before anything runs, once, and not for each row."""

from collections.abc import Iterable, Sequence

from executor.engines.port import Engine, EngineSpec
from executor.store.jobs import DEFAULT_TENANT
from halo.batch.errors import EnginesUnfit
from planner.advice import closest, hint
from planner.ir.needs import models_of
from planner.ir.plan import Plan


async def check_models(plan: Plan, engines: Sequence[Engine]) -> None:
    """Raises `EnginesUnfit` with each model that no engine serves, and each engine that does not say what it serves."""
    specs = [engine.spec for engine in engines]
    missing = unserved(models_of(plan), specs)
    if not missing:
        return
    served = _served(specs, DEFAULT_TENANT)
    lines = [f"  {why}" for why in missing.values()]
    silent = [f"  {line}" for engine in engines if not engine.spec.models for line in [await _told(engine)]]
    lines += silent or [f"  the engines serve: {_listed(served)}"]
    if served and not silent:
        model = next(iter(missing))
        lines.append(f"to have one of these answer instead: --model {model}={closest(model, served) or served[0]}")
    raise EnginesUnfit("\n".join([f"these engines cannot run {plan.name!r}:", *lines]))


def unserved(models: Iterable[str], specs: Sequence[EngineSpec], tenant: str = DEFAULT_TENANT) -> dict[str, str]:
    """The models that no engine serves to the tenant: why, and what can be done, fit for whoever wrote the fleet
    file."""
    served = _served(specs, tenant)
    return {model: _why_not(model, specs, served, tenant) for model in models if model not in served}


def _served(specs: Sequence[EngineSpec], tenant: str) -> list[str]:
    return sorted({model for spec in specs for model in spec.served if spec.serves(model, tenant)})


def _why_not(model: str, specs: Sequence[EngineSpec], served: Sequence[str], tenant: str) -> str:
    if keeping := [spec.id for spec in specs if model in spec.served]:
        kept = f"is served by {', '.join(keeping)}, kept for tenants in the fleet file"
        return f"the model {model!r} {kept}: name {tenant!r} among them"
    return f"no engine serves the model {model!r}{hint(model, served)}"


async def _told(engine: Engine) -> str:
    health = await engine.probe()
    why = health.detail or ("it names no models" if health.ready else "no answer")
    return f"engine {engine.spec.id} ({engine.spec.url or engine.spec.kind}): {why}; start it, or name its models"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
