"""An OpenAI-compatible server that answers as its prompts tell it to: with 500, garbage, half an answer, or nothing."""

import asyncio

from aiohttp import web

MODEL = "test-model"
CONTEXT_TOKENS = 4096


def make_app() -> web.Application:
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_get("/v1/models", _models)
    app.router.add_get("/health", _health)
    app.router.add_post("/v1/chat/completions", _chat)
    return app


async def _health(_: web.Request) -> web.Response:
    return web.Response()


async def _models(_: web.Request) -> web.Response:
    model = {"id": MODEL, "object": "model", "max_model_len": CONTEXT_TOKENS}
    return web.json_response({"object": "list", "data": [model]})


async def _chat(request: web.Request) -> web.StreamResponse:
    prompt = (await request.json())["messages"][-1]["content"]
    match prompt.rpartition(" ")[2]:
        case "500":
            return web.json_response({"error": {"message": "the GPU is on fire"}}, status=500)
        case "garbage":
            return web.Response(text="<html>not what you wanted</html>")
        case "nothing":
            await asyncio.sleep(60)
        case "wrong-model":
            return _answer("from another model", "somebody-else")
        case "half":
            return await _half(request)
    if len(prompt) > 4 * CONTEXT_TOKENS:
        message = f"This model's maximum context length is {CONTEXT_TOKENS} tokens. However, you requested more."
        return web.json_response({"error": {"message": message, "type": "BadRequestError", "code": 400}}, status=400)
    return _answer(f"answer to {len(prompt)} characters", MODEL)


def _answer(text: str, model: str) -> web.Response:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    return web.json_response({"id": "1", "model": model, "choices": [choice], "usage": usage})


async def _half(request: web.Request) -> web.StreamResponse:
    """Begins to answer, and breaks off."""
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"id": "1", "choices": [{"index": 0, "mess')
    assert request.transport is not None
    request.transport.abort()
    return response
