"""Which tools an answer asks for: by `tool_calls`, or by one fenced block of shell commands."""

import re

from halo_vllm.policy.tools import ToolKey, tool_key
from planner.ir.values import Json

#: Shell commands as mini-swe-agent and its like write them into the text: exactly one block.
_SHELL_BLOCK = re.compile(r"```(?:mswea_bash_command|bash|sh|shell)[ \t]*\n(.*?)\n?```", re.DOTALL)
SHELL = "bash"


def tools_asked(message: Json) -> tuple[ToolKey, ...]:
    """Of an answer in OpenAI's shape, in order."""
    calls = message.get("tool_calls")
    if calls:
        return tuple(_key(call.get("function")) for call in calls if isinstance(call, dict))
    content = message.get("content")
    blocks = _SHELL_BLOCK.findall(content) if isinstance(content, str) else []
    return (tool_key(SHELL, blocks[0]),) if len(blocks) == 1 else ()


def _key(function: Json) -> ToolKey:
    if not isinstance(function, dict):
        return tool_key("")
    return tool_key(str(function.get("name") or ""), function.get("arguments"))
