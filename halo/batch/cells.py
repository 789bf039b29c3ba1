"""Values that come as text, as the input they are for wants them."""

import json

from planner.ir.plan import Input
from planner.ir.values import Json


def takes_text(given: Input) -> bool:
    """Whether a text is to be left as it stands: the input wants text, or does not say what it wants."""
    if not isinstance(given.schema, dict):
        return True
    wanted = given.schema.get("type")
    return wanted == "string" or (wanted is None and not {"anyOf", "oneOf"} & given.schema.keys())


def json_cell(text: str) -> Json:
    """The JSON value of the text; the text itself when it is none, and the schema may then say what it thinks."""
    stripped = text.strip()
    try:
        return json.loads(stripped.lower() if stripped.lower() in {"true", "false", "null"} else stripped)
    except (ValueError, RecursionError):
        return text
