"""What is known, before anything runs, of the value a stage will give: which fields it has, and how many items."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from planner.advice import closest
from planner.ir.values import Json


class StepUnknown(Exception):
    """There is no such field or item. `what` is for people, and so is `fix`."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix


class Shape(Protocol):
    """`kind` is a JSON type name, `length` the number of items, `choices` the only values; each None where unknown."""

    @property
    def kind(self) -> str | None: ...

    @property
    def length(self) -> int | None: ...

    @property
    def choices(self) -> tuple[Json, ...] | None: ...

    def step(self, key: str | int) -> "Shape":
        """The shape of the field or item `key`. Raises `StepUnknown` when there can be none."""
        ...


@dataclass(frozen=True, slots=True)
class Anything:
    kind: str | None = None
    length: int | None = None
    choices: tuple[Json, ...] | None = None

    def step(self, key: str | int) -> Shape:
        return ANYTHING


ANYTHING = Anything()


@dataclass(frozen=True, slots=True)
class Fields:
    """An object with exactly these fields."""

    fields: Mapping[str, Shape]
    kind: str | None = "object"
    length: int | None = None
    choices: tuple[Json, ...] | None = None

    def step(self, key: str | int) -> Shape:
        if key in self.fields:
            return self.fields[str(key)]
        raise _no_field(key, self.fields)


@dataclass(frozen=True, slots=True)
class Items:
    """A list with exactly these items."""

    items: tuple[Shape, ...]
    kind: str | None = "array"
    choices: tuple[Json, ...] | None = None

    @property
    def length(self) -> int | None:
        return len(self.items)

    def step(self, key: str | int) -> Shape:
        if isinstance(key, str):
            raise _not_an_index(key)
        if not -len(self.items) <= key < len(self.items):
            raise StepUnknown(f"there is no item {key} in a list of {len(self.items)}", "count from 0")
        return self.items[key]


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list of any number of items of one shape."""

    item: Shape
    kind: str | None = "array"
    length: int | None = None
    choices: tuple[Json, ...] | None = None

    def step(self, key: str | int) -> Shape:
        if isinstance(key, str):
            raise _not_an_index(key)
        return self.item


@dataclass(frozen=True, slots=True)
class FromSchema:
    """What a JSON schema promises. `definitions` are the schema's `$defs`."""

    schema: Json
    definitions: Json = field(default_factory=dict)

    @property
    def kind(self) -> str | None:
        found = self._settled().get("type")
        return found if isinstance(found, str) else None

    @property
    def length(self) -> int | None:
        schema = self._settled()
        count = len(schema.get("prefixItems", ()))
        return count if count and schema.get("minItems") == schema.get("maxItems") == count else None

    @property
    def choices(self) -> tuple[Json, ...] | None:
        schema = self._settled()
        if "const" in schema:
            return (schema["const"],)
        return tuple(schema["enum"]) if "enum" in schema else None

    def step(self, key: str | int) -> Shape:
        schema = self._settled()
        match schema.get("type"):
            case "object":
                return self._field(schema, key)
            case "array":
                return self._item(schema, key)
            case "string" | "number" | "integer" | "boolean" | "null" as kind:
                raise _no_parts(kind, key)
        return ANYTHING

    def _field(self, schema: dict[str, Any], key: str | int) -> Shape:
        properties = schema.get("properties", {})
        if key in properties:
            return FromSchema(properties[key], self.definitions)
        more = schema.get("additionalProperties", not properties)
        if isinstance(more, dict):
            return FromSchema(more, self.definitions)
        if more:
            return ANYTHING
        raise _no_field(key, properties)

    def _item(self, schema: dict[str, Any], key: str | int) -> Shape:
        if isinstance(key, str):
            raise _not_an_index(key)
        prefix = schema.get("prefixItems", [])
        if prefix and self.length is not None:
            return Items(tuple(FromSchema(item, self.definitions) for item in prefix)).step(key)
        items = schema.get("items", {})
        return FromSchema(items, self.definitions) if isinstance(items, dict) else ANYTHING

    def _settled(self) -> dict[str, Any]:
        """The schema behind references, and behind the one alternative that is not null."""
        schema = self.schema
        for _ in range(32):
            if not isinstance(schema, dict):
                return {}
            if "$ref" in schema:
                schema = self.definitions.get(str(schema["$ref"]).removeprefix("#/$defs/"), {})
                continue
            options = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
            if not options:
                return schema
            real = [option for option in options if option.get("type") != "null"]
            schema = real[0] if len(real) == 1 else {}
        return {}


def shape_of(schema: Json) -> Shape:
    if not isinstance(schema, dict):
        return ANYTHING
    return FromSchema(schema, schema.get("$defs", {}))


def kind_name(kind: str) -> str:
    """A JSON type as people call it, with its article."""
    return _KIND_NAMES.get(kind, f"a {kind}")


_KIND_NAMES = {
    "string": "a text",
    "integer": "a whole number",
    "boolean": "a truth value",
    "array": "a list",
    "object": "an object",
    "null": "None",
}

TEXT: Shape = FromSchema({"type": "string"})
TRUTH: Shape = FromSchema({"type": "boolean"})


def _no_field(key: str | int, known: Iterable[str]) -> StepUnknown:
    names = list(known)
    close = closest(str(key), names)
    fix = "read one of these" if close is None else f"did you mean {close!r}?"
    return StepUnknown(f"there is no field {key!r}; the fields are: {', '.join(names)}", fix)


def _not_an_index(key: str) -> StepUnknown:
    return StepUnknown(f"a list has no field {key!r}", "take one item with [0], or use halo.map for each of them")


def _no_parts(kind: str, key: str | int) -> StepUnknown:
    return StepUnknown(
        f"the value is {kind_name(kind)}, known only when the program runs, so {key!r} cannot be taken from it here",
        "do that in a @halo.tool function",
    )
