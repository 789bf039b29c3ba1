"""Errors as RFC 9457 problems. One table says which failure becomes which; types are stable names."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from executor.drivers.door import DoorRefused
from executor.engines.port import FailureClass
from executor.store.failures import IdempotencyConflict, JobUnknown, StoreUnavailable
from halo.service.openai_errors import error_response, message_of, param_of, speaks_openai
from planner.errors import PlanInvalid, PlanUnreadable, Problem, RowsInvalid, count_of

MEDIA_TYPE = "application/problem+json"
#: A problem's `type` is this and its name.
TYPES = "urn:halo:problem:"
#: More problems than this are counted, not told.
MOST_TOLD = 100
RETRY_AFTER_S = 5

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem: its stable name, its status and its title."""

    name: str
    status: int
    title: str


class Refused(Exception):
    """The request cannot be done; `problems` say where, what and how to mend it."""

    def __init__(self, detail: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(detail)
        self.problems = tuple(problems)


class RequestInvalid(Refused):
    """The body or a parameter is not what the route takes."""


class NotServed(Refused):
    """The plan asks for a workflow, a tool or a model that is not here."""


class WorkflowUnknown(Refused):
    """The address names a workflow that is not registered."""


class KeyMissing(Refused):
    """There is no key, or it is nobody's."""


class HostRefused(Refused):
    """The request did not ask for this machine by a name of its own."""


class OperatorsOnly(Refused):
    """The tenant may not change the fleet, which is everybody's."""


class EngineUnknown(Refused):
    """The address names an engine that is not of the fleet."""


class CallInvalid(Refused):
    """The request is not as OpenAI's API has it."""


class ModelUnknown(Refused):
    """No engine serves a model of this name."""


class ComeBackLater(Refused):
    """Not now: `after_s` says when it will do; None where waiting would not help."""

    def __init__(self, detail: str, after_s: int | None) -> None:
        super().__init__(detail)
        self.headers = {} if after_s is None else {"Retry-After": str(after_s)}


class QuotaFull(ComeBackLater):
    """The tenant has as much queued as it may."""


class WouldBeLate(ComeBackLater):
    """The run cannot meet its deadline, and its user wants it to be turned away then."""


class BodyUnreadable(HTTPException):
    """The body is no JSON that Halo takes. An `HTTPException`, because FastAPI lets only these through."""

    def __init__(self, detail: str) -> None:
        super().__init__(400, detail)


class BodyTooLarge(HTTPException):
    def __init__(self, limit: int) -> None:
        super().__init__(413, f"the body is larger than {limit} bytes; send less, or give long texts in several runs")


class MediaTypeRefused(HTTPException):
    def __init__(self, detail: str) -> None:
        super().__init__(415, detail)


KINDS: Mapping[type[Exception], Kind] = {
    RequestInvalid: Kind("request-invalid", 422, "The request does not fit"),
    RequestValidationError: Kind("request-invalid", 422, "The request does not fit"),
    PlanUnreadable: Kind("plan-unreadable", 422, "This is not a plan"),
    PlanInvalid: Kind("plan-invalid", 422, "This plan cannot run"),
    RowsInvalid: Kind("input-invalid", 422, "The input does not fit the plan"),
    NotServed: Kind("not-served", 422, "Something the plan needs is not here"),
    IdempotencyConflict: Kind("idempotency-conflict", 422, "The idempotency key was used for another request"),
    JobUnknown: Kind("run-unknown", 404, "There is no such run"),
    WorkflowUnknown: Kind("workflow-unknown", 404, "There is no such workflow"),
    EngineUnknown: Kind("engine-unknown", 404, "There is no such engine"),
    OperatorsOnly: Kind("operators-only", 403, "Only operators may do this"),
    CallInvalid: Kind("call-invalid", 400, "The request does not fit"),
    ModelUnknown: Kind("model_not_found", 404, "There is no such model"),
    DoorRefused: Kind("not-done", 503, "The call cannot be done just now"),
    KeyMissing: Kind("key-missing", 401, "A valid API key is needed"),
    HostRefused: Kind("host-refused", 403, "This service answers this machine only"),
    BodyUnreadable: Kind("body-unreadable", 400, "The body is not JSON"),
    BodyTooLarge: Kind("body-too-large", 413, "The body is too large"),
    MediaTypeRefused: Kind("media-type-refused", 415, "The body is not of a type taken here"),
    QuotaFull: Kind("quota-full", 429, "The tenant has as much queued as it may"),
    WouldBeLate: Kind("would-be-late", 503, "The run would miss its deadline"),
    StoreUnavailable: Kind("store-unavailable", 503, "The database cannot be reached just now"),
}

#: What the framework itself refuses.
STATUSES: Mapping[int, Kind] = {
    400: Kind("bad-request", 400, "The request cannot be read"),
    404: Kind("address-unknown", 404, "There is nothing at this address"),
    405: Kind("method-refused", 405, "This address does not take this method"),
}
INTERNAL = Kind("internal", 500, "Halo failed")
#: What OpenAI calls these.
OPENAI_CODES: Mapping[str, str] = {"key-missing": "invalid_api_key", "call-invalid": "invalid_request"}


def add_problems(app: FastAPI) -> None:
    """Every failure of a request is answered as a problem."""
    for failure in KINDS:
        app.add_exception_handler(failure, _answer)
    app.add_exception_handler(HTTPException, _answer)
    app.add_exception_handler(Exception, _answer_internal)


def problem_response(error: Exception, path: str = "") -> Response:
    """In the language of the address."""
    kind = _kind(error)
    headers = dict(getattr(error, "headers", None) or {})
    if kind.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if kind.status == 503 and not isinstance(error, ComeBackLater):
        headers["Retry-After"] = str(RETRY_AFTER_S)
    if speaks_openai(path):
        return _openai_response(error, kind, headers)
    return _response(kind, _detail(error, kind), _problems(error), headers)


def _openai_response(error: Exception, kind: Kind, headers: Mapping[str, str]) -> Response:
    if isinstance(error, DoorRefused):
        return _door_response(error)
    problems = _problems(error)
    code = OPENAI_CODES.get(kind.name, kind.name.replace("-", "_"))
    return error_response(kind.status, code, message_of(_detail(error, kind), problems), param_of(problems), headers)


def _door_response(error: DoorRefused) -> Response:
    failure = error.failure
    if failure.code == "model_unknown":
        return error_response(404, "model_not_found", failure.message, "model")
    if failure.failure_class is FailureClass.ROW:  # it killed the engines it ran on
        return error_response(400, failure.code, failure.message)
    status = 429 if failure.failure_class is FailureClass.RATE else 503
    wait_s = failure.retry_after_s if failure.retry_after_s is not None else RETRY_AFTER_S
    return error_response(status, failure.code, failure.message, headers={"Retry-After": str(ceil(wait_s))})


async def _answer(request: Request, error: Exception) -> Response:
    return problem_response(error, request.url.path)


async def _answer_internal(request: Request, error: Exception) -> Response:
    log.error("request failed", method=request.method, path=request.url.path, exc_info=error)
    detail = "the failure is in the log of the service"
    if speaks_openai(request.url.path):
        return error_response(INTERNAL.status, INTERNAL.name, detail)
    return _response(INTERNAL, detail, (), {})


def _kind(error: Exception) -> Kind:
    for kind in type(error).__mro__:
        if kind in KINDS:
            return KINDS[kind]
    assert isinstance(error, HTTPException), f"{type(error).__name__} has no problem"
    return STATUSES.get(error.status_code, Kind("refused", error.status_code, error.detail))


def _detail(error: Exception, kind: Kind) -> str:
    if isinstance(error, JobUnknown):
        return "there never was one of this id, or it is not yours"
    if isinstance(error, HTTPException):
        return error.detail
    if isinstance(error, Refused):
        return str(error)
    problems = _problems(error)
    return count_of(problems) if problems else str(error) or kind.title


def _problems(error: Exception) -> tuple[Problem, ...]:
    if isinstance(error, RequestValidationError):
        return tuple(_of_validation(detail) for detail in error.errors())
    return tuple(getattr(error, "problems", ()))


_FIXES = {
    "missing": "give it",
    "extra_forbidden": "leave it out",
    "json_invalid": "send JSON",
}


def _of_validation(detail: Any) -> Problem:
    where = ".".join(str(step) for step in detail["loc"])
    fix = (detail.get("ctx") or {}).get("fix") or _FIXES.get(detail["type"], "change it")
    return Problem(where, str(detail["msg"]), str(fix))


def _response(kind: Kind, detail: str, problems: Sequence[Problem], headers: Mapping[str, str]) -> Response:
    body: dict[str, Any] = {"type": TYPES + kind.name, "title": kind.title, "status": kind.status, "detail": detail}
    if problems:
        body["problems"] = [
            {"where": problem.where, "what": problem.what, "fix": problem.fix} for problem in problems[:MOST_TOLD]
        ]
        body["problems_total"] = len(problems)
    return _AsciiJson(body, kind.status, headers=dict(headers), media_type=MEDIA_TYPE)


class _AsciiJson(JSONResponse):
    """Escapes what is not ASCII: the text may quote what somebody sent, half surrogate pairs too."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content).encode("ascii")
