"""Type hints, JSON schemas, and values going in and out of JSON. The one file of the SDK that knows pydantic."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, is_dataclass, replace
from functools import cache
from math import isfinite
from typing import TYPE_CHECKING, Any, NotRequired, get_args

from planner.ir.values import Json, canonical_json

if TYPE_CHECKING:
    from pydantic import TypeAdapter


class NoJsonForm(Exception):
    """A type or value that JSON cannot hold."""


class NoSuchNumber(NoJsonForm):
    """NaN or an infinity. `plain` is the whole value as plain data, with the number in it."""

    def __init__(self, number: float, plain: Any) -> None:
        super().__init__(f"{number} is not a number JSON can hold: use None or a text")
        self.plain = plain


class Misfit(Exception):
    """JSON that does not fit its type. `problems` are (place, what is wrong)."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{place}: {what}" if place else what for place, what in problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Adapter:
    """A Python type as JSON: its schema, and the way in and out."""

    hint: Any
    schema: Json
    _adapter: "TypeAdapter[Any]"

    def read(self, data: Json) -> Any:
        """The Python value of `data`. Raises `Misfit`."""
        from pydantic import ValidationError

        try:
            return self._adapter.validate_python(data)
        except ValidationError as error:
            raise Misfit([_place(entry) for entry in error.errors(include_url=False)]) from None

    def write(self, value: Any) -> Json:
        """JSON of `value`. Raises `NoJsonForm`."""
        from pydantic_core import PydanticSerializationError

        try:
            data = self._adapter.dump_python(value, mode="json", warnings=False)
            if "null" in canonical_json(data):  # pydantic writes it for NaN, too, where the type says nothing
                self._check_numbers(value)
        except (PydanticSerializationError, TypeError, ValueError, RecursionError) as error:
            raise NoJsonForm(str(error)) from None
        return data

    def write_for_check(self, value: Any) -> Any:
        """JSON of `value`; where it has none, what its reader will refuse for the same reason."""
        try:
            return self.write(value)
        except NoSuchNumber as refused:
            return refused.plain
        except NoJsonForm:
            return value

    def _check_numbers(self, value: Any) -> None:
        plain = self._adapter.dump_python(value, warnings=False)
        for number in _numbers(plain):
            if not isfinite(number):
                raise NoSuchNumber(number, plain)


def adapter_for(hint: Any) -> Adapter:
    """Raises `NoJsonForm` for a type without a JSON schema."""
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticUserError

    try:
        adapter: TypeAdapter[Any] = TypeAdapter(hint)
        schema = adapter.json_schema(schema_generator=_schema_writer())
    except (PydanticUserError, TypeError, NameError) as error:
        raise NoJsonForm(str(error).splitlines()[0]) from None
    return Adapter(hint, schema or None, adapter)


def arguments_adapter(name: str, hints: Mapping[str, Any], required: frozenset[str]) -> Adapter:
    """The arguments of a function as one JSON object: nothing unknown, nothing required left out."""
    import typing_extensions

    arguments = {key: hint if key in required else NotRequired[hint] for key, hint in hints.items()}
    # The checkers want a literal name; pydantic wants this TypedDict before Python 3.12.
    typed_dict: Any = typing_extensions.TypedDict
    shape = typed_dict(name, arguments)
    shape.__pydantic_config__ = {"extra": "forbid"}
    adapter = adapter_for(shape)
    return replace(adapter, schema={key: part for key, part in adapter.schema.items() if key != "title"})


def to_json(value: Any) -> Json:
    """JSON of any value that has one: dataclasses, pydantic models, dates, enums, paths. Raises `NoJsonForm`."""
    return _anything().write(value)


def model_fields(value: Any) -> dict[str, Any] | None:
    """The fields of a pydantic model, even one built without validation; None for anything else."""
    from pydantic import BaseModel

    if not isinstance(value, BaseModel):
        return None
    return {name: getattr(value, name) for name in type(value).model_fields if hasattr(value, name)}


def missing_model_fields(value: Any) -> list[str]:
    """Required fields that a pydantic model built without validation lacks."""
    from pydantic import BaseModel

    if not isinstance(value, BaseModel):
        return []
    return [name for name in type(value).model_fields if not hasattr(value, name)]


def holds_class(hint: Any) -> bool:
    """True when JSON does not give back a value of this type by itself: a model or dataclass is in it."""
    from pydantic import BaseModel

    if isinstance(hint, type) and (is_dataclass(hint) or issubclass(hint, BaseModel)):
        return True
    return any(holds_class(argument) for argument in get_args(hint))


def _numbers(plain: Any) -> Iterator[float]:
    if isinstance(plain, float):
        yield plain
    elif isinstance(plain, dict):
        for member in plain.values():
            yield from _numbers(member)
    elif isinstance(plain, list | tuple | set | frozenset):
        for member in plain:
            yield from _numbers(member)


@cache
def _anything() -> Adapter:
    return adapter_for(Any)


@cache
def _schema_writer() -> Any:
    from pydantic.json_schema import GenerateJsonSchema

    class WithoutTitles(GenerateJsonSchema):
        """Titles repeat the names, and every model would have to read them."""

        def field_title_should_be_set(self, schema: Any) -> bool:
            return False

    return WithoutTitles


def _place(entry: Any) -> tuple[str, str]:
    return ".".join(str(step) for step in entry["loc"]), str(entry["msg"])
