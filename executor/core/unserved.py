"""Why no engine of the fleet may take a tenant's call, and what can be done about it."""

from collections.abc import Iterable

from executor.engines.port import EngineSpec, Failure, FailureClass

UNKNOWN, KEPT = "unknown_model", "engines_kept"


def nobody_serves(specs: Iterable[EngineSpec], model: str, tenant: str) -> Failure:
    """No engine serves the model, or those that do are kept for other tenants."""
    engines = list(specs)
    own = sorted({name for spec in engines for name in spec.served if spec.serves(name, tenant)})
    may_use = f"{_who(tenant)} may use: {', '.join(own) or 'none'}"
    if keeping := [spec.id for spec in engines if model in spec.served]:
        what = f"engines that serve the model {model!r} are kept for other tenants"
        fix = f"name the tenant in `tenants` of {', '.join(keeping)} in the fleet file"
        return Failure(FailureClass.ENGINE, KEPT, f"{what}; {fix}; {may_use}")
    serves = f"the fleet serves: {', '.join(own) or 'none'}" if not _keeps(engines) else may_use
    return Failure(FailureClass.ENGINE, UNKNOWN, f"no engine serves the model {model!r}; {serves}")


def _keeps(engines: Iterable[EngineSpec]) -> bool:
    return any(spec.tenants for spec in engines)


def _who(tenant: str) -> str:
    return f"the tenant {tenant!r}" if tenant else "who is of no tenant"
