"""Failures as every engine body tells them."""

from executor.engines.port import EngineFailed, EngineSpec, Failure, FailureClass


def failed(failure_class: FailureClass, code: str, message: str, retry_after_s: float | None = None) -> EngineFailed:
    return EngineFailed(Failure(failure_class, code, message, retry_after_s))


def timed_out(timeout_s: float) -> EngineFailed:
    return failed(FailureClass.ENGINE, "timeout", f"no answer within {timeout_s:g} s")


def closed(spec: EngineSpec) -> EngineFailed:
    """It was asked after its `close`, or closed while it was at it."""
    return failed(FailureClass.ENGINE, "closed", f"engine {spec.id} is closed")
