"""OpenAI's API: agents that speak it change `OPENAI_BASE_URL`, and nothing else."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from executor.door.reading import CHAT, COMPLETIONS
from executor.drivers.door import Asked
from halo.service.door_response import DoorResponse
from halo.service.openai_requests import read_call_body
from halo.service.parts import Parts, TheParts, TheTenant
from halo.service.problems import ModelUnknown, problem_response
from halo.service.schemas.openai import ChatCall, CompletionCall, ModelCard, ModelList
from planner.advice import advice

router = APIRouter(tags=["openai"])


def _takes(schema: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {"description": "the engine's answer", "content": {"application/json": {}, "text/event-stream": {}}}
}


@router.post(CHAT, response_class=Response, responses=_ANSWER, openapi_extra=_takes(ChatCall.model_json_schema()))
async def create_chat_completion(request: Request, parts: TheParts, tenant: TheTenant) -> Response:
    """A chat completion, whole or as a stream: the engine's own answer. Fields Halo does not know pass on to it.

    The call is of the program that `X-Halo-Program-Id`, `X-Session-ID`, `X-Dynamo-Session-ID`, `metadata.program_id` or
    `vllm_xargs.session_id` names; else of the program whose last answer these messages go on from.
    """
    return await _through_the_door(request, CHAT, parts, tenant)


@router.post(
    COMPLETIONS, response_class=Response, responses=_ANSWER, openapi_extra=_takes(CompletionCall.model_json_schema())
)
async def create_completion(request: Request, parts: TheParts, tenant: TheTenant) -> Response:
    """The same for a prompt of text or token ids."""
    return await _through_the_door(request, COMPLETIONS, parts, tenant)


@router.get("/v1/models")
async def list_models(parts: TheParts, tenant: TheTenant) -> ModelList:
    """The models that the engines of this service have for whoever asks."""
    return ModelList(data=list(_models(parts, tenant).values()))


@router.get("/v1/models/{model:path}")
async def get_model(model: Annotated[str, Path(max_length=512)], parts: TheParts, tenant: TheTenant) -> ModelCard:
    """One of them."""
    models = _models(parts, tenant)
    if model not in models:
        raise ModelUnknown(f"no engine serves the model {model[:200]!r}; {advice(model, models)}")
    return models[model]


async def _through_the_door(request: Request, path: str, parts: Parts, tenant: str) -> Response:
    body = await read_call_body(request, path)
    salt = tenant if parts.tenants else None
    asked = Asked(tenant, path, body, dict(request.headers), salt)
    return DoorResponse(parts.door, asked, partial(problem_response, path=path))


def _models(parts: Parts, tenant: str) -> dict[str, ModelCard]:
    """By name; a model has the least context of the engines that serve it."""
    found: dict[str, ModelCard] = {}
    for spec in parts.fleet.open_to(tenant):
        for name in spec.served:
            context = min(spec.context_tokens, found[name].max_model_len) if name in found else spec.context_tokens
            found[name] = ModelCard(id=name, max_model_len=context)
    return {name: found[name] for name in sorted(found)}
