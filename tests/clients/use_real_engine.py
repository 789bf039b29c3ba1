"""The `openai` SDK against a real vLLM behind Halo: everything at once that a modelled engine cannot do."""

import json
import sys
from typing import Any

import openai

MODEL = sys.argv[1]
ASKED: list[Any] = [{"role": "user", "content": "Tell me of the sea. " * 20}]
SCHEMA: Any = {
    "type": "object",
    "properties": {"limit": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["limit"],
    "additionalProperties": False,
}


def main() -> None:
    client = openai.OpenAI()
    chats = client.chat.completions
    plain = chats.create(model=MODEL, messages=ASKED, max_tokens=8, temperature=0)
    again = chats.create(model=MODEL, messages=ASKED, max_tokens=8, temperature=0)
    stream = chats.create(model=MODEL, messages=ASKED, max_tokens=8, temperature=0, stream=True)
    own = {"ignore_eos": True}  # vLLM's, so that the length is known
    several = chats.create(
        model=MODEL, messages=ASKED, max_tokens=8, n=2, logprobs=True, top_logprobs=2, extra_body=own
    )
    guided: Any = {"type": "json_schema", "json_schema": {"name": "limit", "schema": SCHEMA, "strict": True}}
    json_answer = chats.create(model=MODEL, messages=ASKED, max_tokens=48, response_format=guided)
    tool: Any = {"type": "function", "function": {"name": "look", "parameters": SCHEMA}}
    tools = chats.create(model=MODEL, messages=ASKED, max_tokens=8, tools=[tool])
    text = client.completions.create(model=MODEL, prompt=[5, 6, 7, 8], max_tokens=4, logprobs=1, extra_body=own)
    seen = {
        "plain": plain.choices[0].message.content,
        "again": again.choices[0].message.content,
        "cached": _cached(again),
        "stream": "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices),
        "choices": [len((one.logprobs and one.logprobs.content) or ()) for one in several.choices],
        "guided": json.loads(json_answer.choices[0].message.content or "null"),
        "tools": tools.usage.prompt_tokens - plain.usage.prompt_tokens if tools.usage and plain.usage else 0,
        "completion": len(text.choices[0].logprobs.tokens or ()) if text.choices[0].logprobs else 0,
    }
    print(json.dumps(seen))


def _cached(answer: Any) -> int:
    details = answer.usage.prompt_tokens_details
    return int(details.cached_tokens or 0) if details else 0


main()
