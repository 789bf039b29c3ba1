"""OpenAI's shapes: calls, models and errors."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from halo.service.schemas.base import Told


class _Passing(BaseModel):
    """What Halo reads of a call in OpenAI's shape. All other fields pass on to the engine as they are."""

    model_config = ConfigDict(extra="allow", strict=True)

    model: Annotated[str, Field(min_length=1, max_length=512)]
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=0)] | None = None
    metadata: dict[str, Any] | None = None
    vllm_xargs: dict[str, Any] | None = None
    session_id: str | None = None
    cache_salt: str | None = None


class ChatMessage(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    role: str
    content: str | list[Any] | None = None
    tool_calls: list[dict[str, Any]] | None = None


class ChatCall(_Passing):
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    tools: list[dict[str, Any]] | None = None
    response_format: dict[str, Any] | None = None


class CompletionCall(_Passing):
    """`prompt` is a text, token ids, or a list of either."""

    prompt: str | list[Any]

    @field_validator("prompt")
    @classmethod
    def _of_one_kind(cls, prompt: str | list[Any]) -> str | list[Any]:
        if isinstance(prompt, list) and not _is_prompt_list(prompt):
            raise PydanticCustomError("prompt", "must be a text, token ids, or a list of either", {"fix": "send one"})
        return prompt


def _is_prompt_list(prompt: list[Any]) -> bool:
    return bool(prompt) and (_are_ids(prompt) or all(isinstance(one, str) or _are_ids(one) for one in prompt))


def _are_ids(values: Any) -> bool:
    """Booleans are no token ids, though Python counts with them."""
    return isinstance(values, list) and bool(values) and all(type(one) is int and 0 <= one < 2**31 for one in values)


class ModelCard(Told):
    """A model, as OpenAI's API tells of it; `max_model_len` is vLLM's own."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "halo"
    max_model_len: int


class ModelList(Told):
    object: Literal["list"] = "list"
    data: list[ModelCard]


class OpenAIError(Told):
    message: str
    type: str
    param: str | None = None
    code: str | int | None = None


class OpenAIErrorDocument(Told):
    """Every error of OpenAI's addresses."""

    error: OpenAIError
