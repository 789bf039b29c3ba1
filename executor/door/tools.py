"""Which tools an answer asks for: by `tool_calls`, or by one fenced block of shell commands."""

import json
import re
import shlex
from dataclasses import dataclass

from planner.ir.values import Json

#: Shell commands as mini-swe-agent and its like write them into the text: exactly one block.
_SHELL_BLOCK = re.compile(r"```(?:mswea_bash_command|bash|sh|shell)[ \t]*\n(.*?)\n?```", re.DOTALL)
#: Arguments that hold a whole shell command.
_COMMANDS = ("command", "cmd")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_WRAPPERS = frozenset({"sudo", "timeout", "time", "env", "nice", "nohup", "exec"})
_LONGEST_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class ToolUse:
    """`arguments` is the class of the arguments: calls of one tool and class take alike long. For a shell it is the
    program that is run."""

    name: str
    arguments: str = ""


def tools_asked(message: Json) -> tuple[ToolUse, ...]:
    """Of an answer in OpenAI's shape, in order."""
    calls = message.get("tool_calls")
    if calls:
        return tuple(_use(call.get("function") or {}) for call in calls if isinstance(call, dict))
    content = message.get("content")
    blocks = _SHELL_BLOCK.findall(content) if isinstance(content, str) else []
    return (ToolUse("bash", command_class(blocks[0])),) if len(blocks) == 1 else ()


def command_class(command: str) -> str:
    """The program that a shell command runs last of all it chains with `&&`: `cd x && python -m pytest` is `python`."""
    for part in reversed(re.split(r"&&|;|\n", command.partition("|")[0])):
        words = _words(part)
        if words and words[0] != "cd":
            return words[0].rpartition("/")[2][:_LONGEST_CHARACTERS]
    return ""


def _use(function: Json) -> ToolUse:
    name = str(function.get("name") or "")[:_LONGEST_CHARACTERS]
    try:
        arguments = json.loads(function.get("arguments") or "{}")
    except (TypeError, ValueError):
        return ToolUse(name)
    given = arguments if isinstance(arguments, dict) else {}
    commands = [given[key] for key in _COMMANDS if isinstance(given.get(key), str)]
    return ToolUse(name, command_class(commands[0]) if commands else "")


def _words(part: str) -> list[str]:
    try:
        words = shlex.split(part, comments=True)
    except ValueError:
        words = part.split()
    while words and (words[0] in _WRAPPERS or _ASSIGNMENT.match(words[0]) or words[0].replace(".", "").isdigit()):
        words = words[1:]
    return words
