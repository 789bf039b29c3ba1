"""What a program waits for, named so that calls which take alike long share a name."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import urlsplit

LONGEST_NAME = 64
LONGEST_COMMAND = 4_096

SHELLS = frozenset({"bash", "sh", "shell", "terminal", "execute_bash", "run_command", "execute_command"})
QUICK = frozenset({"cd", "echo", "export", "set", "source", ".", "true", "pwd", "unset", "printf", "pushd", "popd"})
PREFIXES = frozenset({"sudo", "time", "nice", "env", "nohup", "exec", "command", "timeout", "stdbuf", "xargs"})
VERBS = frozenset(
    {"apt", "apt-get", "bundle", "cargo", "conda", "docker", "dotnet", "git", "go", "gradle", "kubectl", "make", "mvn"}
    | {"npm", "npx", "pip", "pip3", "pnpm", "poetry", "uv", "yarn"}
)
INTERPRETERS = frozenset({"bash", "node", "perl", "python", "python3", "ruby", "sh"})


@dataclass(frozen=True, slots=True, order=True)
class ToolKey:
    """A tool and the class of its arguments; "" where the tool alone says enough."""

    tool: str
    arguments: str = ""


def tool_key(tool: str, arguments: object = None) -> ToolKey:
    """The key of one call. `arguments`: the command of a shell, or the JSON object, or its text, of any tool.

    A shell's class is the first command that is not `cd` or as quick, with its verb or script: with the first word
    alone, `cd repo && pytest` makes `cd` the slowest of all tools (the tail of `cd` in Continuum, arXiv 2511.02230). A
    tool that fetches has the host for its class; of others the name says enough. Never fails, whatever it is given.
    """
    name = tool.strip()[:LONGEST_NAME].lower()
    fields = _fields(arguments)
    if command := _command(name, arguments, fields):
        return ToolKey(name, command_class(command))
    return ToolKey(name, _host(fields))


def command_class(command: str) -> str:
    """The class of a shell command: `pytest` of "cd repo && timeout 60 python -m pytest", `git clone`, `sleep 2^5`."""
    commands = [words for part in _parts(command[:LONGEST_COMMAND]) if (words := _bare(part))]
    slow = [words for words in commands if words[0] not in QUICK]
    chosen = next(iter(slow or commands), [])
    return _named(chosen)[:LONGEST_NAME]


def _command(tool: str, arguments: object, fields: Mapping[str, object]) -> str:
    if tool not in SHELLS:
        return ""
    told = fields.get("command", fields.get("cmd", arguments if not fields else ""))
    return told if isinstance(told, str) else ""


def _fields(arguments: object) -> Mapping[str, object]:
    if isinstance(arguments, str) and arguments.lstrip().startswith("{"):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return {}
    return arguments if isinstance(arguments, Mapping) else {}


def _host(fields: Mapping[str, object]) -> str:
    url = fields.get("url")
    if not isinstance(url, str):
        return ""
    try:
        return (urlsplit(url[:LONGEST_COMMAND]).hostname or "")[:LONGEST_NAME]
    except ValueError:
        return ""


def _parts(command: str) -> list[list[str]]:
    """The words of each simple command, pipes and lists taken apart."""
    lexer = shlex.shlex(command.replace("\n", " ; "), posix=True, punctuation_chars="();<>|&")
    lexer.whitespace_split = True
    lexer.commenters = ""
    parts: list[list[str]] = [[]]
    try:
        for word in lexer:
            if set(word) <= set("();|&"):
                parts.append([])
            else:
                parts[-1].append(word)
    except ValueError:
        pass  # a quote that never closes: what stands before it says enough
    return parts


def _bare(words: Sequence[str]) -> list[str]:
    """Without assignments and what only runs another command: `FOO=1 sudo timeout 60 make` is `make`."""
    left = list(words)
    while left and (_assigns(left[0]) or PurePosixPath(left[0]).name in PREFIXES):
        runner = PurePosixPath(left.pop(0)).name
        while runner in PREFIXES and left and (left[0].startswith("-") or left[0][:1].isdigit()):
            left.pop(0)
    return left


def _assigns(word: str) -> bool:
    name, equals, _ = word.partition("=")
    return bool(equals) and name.isidentifier()


def _named(words: Sequence[str]) -> str:
    if not words:
        return ""
    name = PurePosixPath(words[0]).name
    verb = next((word for word in words[1:] if not word.startswith("-")), "")
    if name in INTERPRETERS or name.startswith("python"):
        return _script(name, words[1:])
    if name == "sleep":
        return f"sleep 2^{len(digits)}" if (digits := _binary(verb)) else name
    return f"{name} {verb}".strip() if name in VERBS else name


def _script(interpreter: str, words: Sequence[str]) -> str:
    match words:
        case ["-m", module, *_]:
            return module
        case ["-c", *_] | []:
            return f"{interpreter} -c"
        case ["-" | "<<", *_]:
            return f"{interpreter} -"
        case [script, *_] if not script.startswith(("-", "<")):
            return f"{interpreter} {PurePosixPath(script).name}"
    return interpreter


def _binary(seconds: str) -> str:
    """The whole seconds in binary, whose length is their order of magnitude."""
    whole = seconds.partition(".")[0].removesuffix("s")
    return f"{int(whole):b}" if whole.isascii() and whole.isdigit() and len(whole) < 10 else ""
