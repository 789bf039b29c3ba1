"""The event log of a run: one JSON line an event, fit to be fed to a fresh core."""

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TextIO

from pydantic import TypeAdapter

from executor import events
from executor.events import Event


class Journal:
    """Appends events to a file. Prompts and outputs are not among them; the job's plan is."""

    def __init__(self, path: Path) -> None:
        self._file: TextIO = path.open("a", encoding="utf-8")

    def append(self, event: Event) -> None:
        self._file.write(encode_event(event) + "\n")

    def close(self) -> None:
        self._file.close()


def read_journal(path: Path) -> Iterator[Event]:
    with path.open(encoding="utf-8") as lines:
        yield from decode_events(lines)


def decode_events(lines: Iterable[str]) -> Iterator[Event]:
    for line in lines:
        name, _, text = line.partition(" ")
        yield _adapter(name).validate_json(text)


def encode_event(event: Event) -> str:
    name = type(event).__name__
    return f"{name} {_adapter(name).dump_json(event, fallback=list).decode()}"


@cache
def _adapter(name: str) -> TypeAdapter[Event]:
    kinds = {kind.__name__: kind for kind in events.Event.__args__}
    return TypeAdapter(kinds[name])
