"""Makes a JSON value that fits a JSON schema: what guided decoding would let a model write."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, floor
from random import Random

from planner.ir.values import Json

#: Below this depth nothing optional is written, so that schemas which contain themselves come to an end.
OPTIONAL_DEPTH = 4
LARGEST_DEPTH = 40
#: More values, or characters of one text, are not made up: a schema may ask for any number.
MOST_VALUES = 10_000
MOST_CHARACTERS = 100_000

_VOCABULARY = (
    "amber basin cedar delta ember fjord grove harbor island juniper kernel lagoon meadow north orchard prairie "
    "quartz river summit timber upland valley willow yarrow zenith"
)
_WORDS = tuple(_VOCABULARY.split())
_FORMATS = {
    "date": "2024-05-{number}",
    "time": "12:{number}:00Z",
    "date-time": "2024-05-{number}T12:00:00Z",
    "duration": "PT{number}M",
    "email": "{word}@example.com",
    "uri": "https://example.com/{word}",
    "uuid": "00000000-0000-4000-8000-0000000000{number}",
}
_REFUSED = ("allOf", "not", "if", "pattern", "patternProperties", "dependentSchemas", "contains", "uniqueItems")


class SchemaUnsupported(Exception):
    """The schema uses what is not built here, or no value fits it."""


@dataclass(frozen=True, slots=True)
class _Making:
    """`spare` says how much to write beyond what the schema demands: 0 is the least that fits. `left` counts values."""

    root: Json
    random: Random
    spare: int
    left: Iterator[int] = field(default_factory=lambda: iter(range(MOST_VALUES)))


def instance_of(schema: Json, random: Random, spare: int = 3) -> Json:
    """A value that fits the schema; the same `random` state, the same value. Raises `SchemaUnsupported`.

    Knows objects, arrays, strings, numbers, integers, booleans, null; enum, const, anyOf, oneOf, $ref within the
    schema; required, length, item and value bounds, multipleOf.
    """
    return _make(_Making(schema, random, spare), schema, 0)


def _make(making: _Making, schema: Json, depth: int) -> Json:
    if depth > LARGEST_DEPTH:
        raise SchemaUnsupported("it contains itself without an end")
    if next(making.left, None) is None:
        raise SchemaUnsupported(f"it asks for more than {MOST_VALUES} values")
    if schema is True or schema == {}:
        return _word(making)
    if not isinstance(schema, Mapping):
        raise SchemaUnsupported("nothing fits it")
    refused = [word for word in _REFUSED if schema.get(word)]
    if refused:
        raise SchemaUnsupported(f"it uses {', '.join(refused)}")
    if "$ref" in schema:
        return _make(making, _resolve(making.root, schema["$ref"]), depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum") == []:
        raise SchemaUnsupported("nothing fits it")
    if "enum" in schema:
        return making.random.choice(list(schema["enum"]))
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return _make(making, _option(making, options, depth), depth + 1)
    return _of_type(making, schema, _type(making, schema, depth), depth)


def _of_type(making: _Making, schema: Mapping[str, Json], kind: str, depth: int) -> Json:
    match kind:
        case "object":
            return _object(making, schema, depth)
        case "array":
            return _array(making, schema, depth)
        case "string":
            return _string(making, schema)
        case "integer":
            return _integer(making, schema)
        case "number":
            return _number(making, schema)
        case "boolean":
            return making.random.random() < 0.5
        case "null":
            return None
        case _:
            raise SchemaUnsupported(f"its type {kind!r} is unknown")


def _type(making: _Making, schema: Mapping[str, Json], depth: int) -> str:
    kind = schema.get("type")
    if isinstance(kind, str):
        return kind
    if kind:
        plain = [name for name in kind if name not in ("object", "array")]
        return str(making.random.choice(plain if plain and depth >= OPTIONAL_DEPTH else list(kind)))
    return _implied_type(schema)


def _implied_type(schema: Mapping[str, Json]) -> str:
    if "properties" in schema or "required" in schema:
        return "object"
    if "items" in schema or "minItems" in schema:
        return "array"
    return "number" if "minimum" in schema or "maximum" in schema else "string"


def _option(making: _Making, options: Sequence[Json], depth: int) -> Json:
    """Deep down, prefer what holds nothing."""
    if depth >= OPTIONAL_DEPTH:
        ends = [option for option in options if _is_plain(option)]
        options = ends or options
    return making.random.choice(list(options))


def _is_plain(schema: Json) -> bool:
    return isinstance(schema, Mapping) and (
        "const" in schema
        or "enum" in schema
        or schema.get("type") in ("null", "boolean", "integer", "number", "string")
    )


def _object(making: _Making, schema: Mapping[str, Json], depth: int) -> Json:
    required = set(schema.get("required", ()))
    properties = schema.get("properties", {})
    names = [name for name in properties if name in required or _wants_more(making, depth)]
    made = {name: _make(making, properties[name], depth + 1) for name in names}
    for name in schema.get("required", ()):
        if name not in made:
            made[name] = _make(making, _extra_schema(schema, name), depth + 1)
    return _padded(making, schema, made, depth)


def _padded(making: _Making, schema: Mapping[str, Json], made: dict[str, Json], depth: int) -> Json:
    """As many properties as `minProperties` asks for: first the optional ones, then new ones."""
    least = int(min(schema.get("minProperties", 0), MOST_VALUES + 1))
    properties = schema.get("properties", {})
    spare_names = [name for name in properties if name not in made] + [f"key_{index}" for index in range(least)]
    for name in spare_names:
        if len(made) >= least:
            break
        inner = properties[name] if name in properties else _extra_schema(schema, name)
        made[name] = _make(making, inner, depth + 1)
    return made


def _extra_schema(schema: Mapping[str, Json], name: str) -> Json:
    extra = schema.get("additionalProperties", True)
    if extra is False:
        raise SchemaUnsupported(f"it needs the property {name!r} and forbids it")
    return extra


def _wants_more(making: _Making, depth: int) -> bool:
    return making.spare > 0 and depth < OPTIONAL_DEPTH and making.random.random() < 0.8


def _array(making: _Making, schema: Mapping[str, Json], depth: int) -> Json:
    fixed = list(schema.get("prefixItems", ()))
    least = int(min(max(schema.get("minItems", 0), len(fixed)), MOST_VALUES + 1))
    most = int(schema.get("maxItems", least + making.spare))
    length = least if depth >= OPTIONAL_DEPTH else _between(making, least, min(most, least + making.spare))
    inner = fixed + [schema.get("items", True)] * (length - len(fixed))
    return [_make(making, item, depth + 1) for item in inner]


def _string(making: _Making, schema: Mapping[str, Json]) -> str:
    if schema.get("format") in _FORMATS:
        return _formatted(making, schema["format"])
    least, most = schema.get("minLength", 0), schema.get("maxLength")
    if least > MOST_CHARACTERS:
        raise SchemaUnsupported(f"it asks for a text of more than {MOST_CHARACTERS} characters")
    words = [_word(making) for _ in range(1 + making.random.randrange(1 + 2 * making.spare))]
    text = " ".join(words)
    while len(text) < least:
        text += " " + _word(making)
    if len(text) > least and making.spare == 0:
        text = text[: max(least, 1)]
    return text if most is None else text[: int(most)]


def _formatted(making: _Making, name: str) -> str:
    number = making.random.randrange(10, 28)
    return _FORMATS[name].format(number=number, word=_word(making))


def _word(making: _Making) -> str:
    return making.random.choice(_WORDS)


def _integer(making: _Making, schema: Mapping[str, Json]) -> int:
    return int(_multiple(making, schema, schema.get("multipleOf", 1)))


def _multiple(making: _Making, schema: Mapping[str, Json], step: float) -> float:
    low, high = _bounds(schema)
    least, most = ceil(low / step), floor(high / step)
    if "exclusiveMinimum" in schema and least * step <= schema["exclusiveMinimum"]:
        least += 1
    if "exclusiveMaximum" in schema and most * step >= schema["exclusiveMaximum"]:
        most -= 1
    return _between(making, least, most) * step


def _number(making: _Making, schema: Mapping[str, Json]) -> float:
    if "multipleOf" in schema:
        return _multiple(making, schema, schema["multipleOf"])
    low, high = _bounds(schema)
    drawn = round(making.random.uniform(low, high), 2)
    return drawn if low < drawn < high else (low + high) / 2


def _bounds(schema: Mapping[str, Json]) -> tuple[float, float]:
    """The smallest and the largest value to draw: the schema's, or a hundred beyond the bound it has."""
    low = max((schema[word] for word in ("minimum", "exclusiveMinimum") if word in schema), default=None)
    high = min((schema[word] for word in ("maximum", "exclusiveMaximum") if word in schema), default=None)
    if low is None:
        low = 0 if high is None or high > 0 else high - 100
    return low, low + 100 if high is None else high


def _between(making: _Making, least: int, most: int) -> int:
    if least > most:
        raise SchemaUnsupported("its bounds leave nothing between them")
    return making.random.randint(least, most)


def _resolve(root: Json, reference: str) -> Json:
    if not reference.startswith("#"):
        raise SchemaUnsupported(f"it refers to {reference!r} outside of it")
    found = root
    for step in reference.lstrip("#/").split("/") if reference != "#" else ():
        key = step.replace("~1", "/").replace("~0", "~")
        found = _step(found, key, reference)
    return found


def _step(found: Json, key: str, reference: str) -> Json:
    if isinstance(found, Mapping) and key in found:
        return found[key]
    if isinstance(found, list) and key.isdigit() and int(key) < len(found):
        return found[int(key)]
    raise SchemaUnsupported(f"it refers to {reference!r}, which it does not have")
