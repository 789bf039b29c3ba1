"""LangChain's `ChatOpenAI` as its users use it: a call, a stream, a bound tool. Prints what it saw as JSON."""

import json
import sys

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


def main() -> None:
    model = ChatOpenAI(model=sys.argv[1])
    plain = model.invoke("hello")
    parts = [str(part.content) for part in model.stream("hello in parts")]
    print(json.dumps({"text": plain.content, "stream": "".join(parts), "tools": _tools(model)}))


def _tools(model: ChatOpenAI) -> list[str]:
    bound = model.bind_tools([weather])
    messages = [HumanMessage("How is the weather in Paris?")]
    asked = bound.invoke(messages)
    results = [ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"]) for call in asked.tool_calls]
    answer = bound.invoke([*messages, asked, *results])
    return [*(str(result.content) for result in results), str(answer.content)]


main()
