"""What a program waits for, named so that calls which take alike long share a name."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class ToolKey:
    """A tool and the class of its arguments; "" where the tool alone says enough."""

    tool: str
    arguments: str = ""


def tool_key(tool: str, arguments: object = None) -> ToolKey:
    """The key of one call. `arguments` is the command of a shell, or the JSON object (or its text) of another tool."""
    return ToolKey(tool)
