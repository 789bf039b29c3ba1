"""Reads request bodies strictly: what is taken can be stored, and written out again as it was."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json

from halo.service.problems import BodyUnreadable
from planner.ir.values import Json
from planner.table import not_json


class JsonRoute(APIRoute):
    """A route whose body is read by `read_json`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return strictly


class _StrictRequest(Request):
    async def json(self) -> Json:
        return read_json(await self.body())


def read_json(body: bytes) -> Json:
    """Raises `BodyUnreadable` for what is no JSON, is nested over 200 deep, or holds numbers or text JSON cannot."""
    try:
        data = from_json(body, allow_inf_nan=False, cache_strings="none")
    except ValueError as error:
        raise BodyUnreadable(f"the body is not JSON: {error}") from None
    complaint = not_json(data)
    if complaint is not None:
        raise BodyUnreadable(f"the body {complaint}")
    return data
