"""The `openai` SDK as its users use it: a chat, a stream, a tool loop, errors. Prints what it saw as JSON."""

import asyncio
import json
import sys
from typing import Any

import openai

MODEL = sys.argv[1]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def main() -> None:
    client = openai.OpenAI()
    seen = {
        "models": [model.id for model in client.models.list()],
        "chat": _chat(client),
        "stream": _stream(client),
        "tools": _tools(client),
        "completion": client.completions.create(model=MODEL, prompt="once", max_tokens=4).choices[0].finish_reason,
        "errors": _errors(client),
        "async": asyncio.run(_many()),
    }
    print(json.dumps(seen))


def _chat(client: openai.OpenAI) -> Any:
    """Two turns of one conversation."""
    messages: list[Any] = [{"role": "user", "content": "hello"}]
    texts = []
    for _ in range(2):
        answer = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=32)
        texts.append(answer.choices[0].message.content)
        messages += [answer.choices[0].message, {"role": "user", "content": "go on"}]
        assert answer.usage is not None
        assert answer.usage.prompt_tokens > 0
    return texts


def _stream(client: openai.OpenAI) -> Any:
    messages: list[Any] = [{"role": "user", "content": "hello in parts"}]
    options: Any = {"include_usage": True}
    pieces, tokens = [], 0
    for chunk in client.chat.completions.create(
        model=MODEL, messages=messages, stream=True, stream_options=options, max_tokens=32
    ):
        pieces += [choice.delta.content or "" for choice in chunk.choices]
        tokens = chunk.usage.completion_tokens if chunk.usage else tokens
    return {"text": "".join(pieces), "tokens": tokens}


def _tools(client: openai.OpenAI) -> Any:
    messages: list[Any] = [{"role": "user", "content": "How is the weather in Paris?"}]
    first = client.chat.completions.create(model=MODEL, messages=messages, tools=[WEATHER], max_tokens=64)
    asked = first.choices[0].message
    for call in asked.tool_calls or ():
        messages += [asked, {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    second = client.chat.completions.create(model=MODEL, messages=messages, tools=[WEATHER], max_tokens=64)
    calls: list[Any] = [(call.function.name, call.function.arguments) for call in asked.tool_calls or ()]  # type: ignore[union-attr]
    return {"calls": calls, "text": second.choices[0].message.content}


def _errors(client: openai.OpenAI) -> Any:
    told = {}
    for name, model, messages in (("unknown", "nobody", [{"role": "user", "content": "x"}]), ("empty", MODEL, [])):
        try:
            client.chat.completions.create(model=model, messages=messages)  # type: ignore[arg-type]
        except openai.APIStatusError as error:
            told[name] = [type(error).__name__, error.code]
    return told


async def _many() -> int:
    async with openai.AsyncOpenAI() as client:
        messages: list[Any] = [{"role": "user", "content": "all at once"}]
        calls = [client.chat.completions.create(model=MODEL, messages=messages, max_tokens=8) for _ in range(20)]
        return len(await asyncio.gather(*calls))


main()
