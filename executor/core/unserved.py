"""Why no engine of the fleet may take a tenant's call, and what can be done about it."""

from collections.abc import Iterable

from executor.engines.port import EngineSpec, Failure, FailureClass

UNKNOWN = "unknown_model"


def nobody_serves(specs: Iterable[EngineSpec], model: str, tenant: str) -> Failure:
    """No engine serves the model to the tenant. Whether one that is kept for others would is not told: whose engines
    are is nobody else's business."""
    engines = list(specs)
    own = ", ".join(sorted({name for spec in engines for name in spec.served if spec.serves(name, tenant)})) or "none"
    told = f"no engine serves the model {model!r}"
    if any(spec.tenants for spec in engines):
        fix = "engines are kept for tenants in the fleet file (`tenants`)"
        told = f"{told} to {_who(tenant)}, who may use: {own}; {fix}"
    else:
        told = f"{told}; the fleet serves: {own}"
    return Failure(FailureClass.ENGINE, UNKNOWN, told)


def _who(tenant: str) -> str:
    return f"the tenant {tenant!r}" if tenant else "calls without a tenant"
