"""From the text a model wrote to the value its stage gives."""

import json
from functools import lru_cache

import jsonschema
from jsonschema.protocols import Validator

from planner.ir.values import Json, canonical_json, parse_json


class AnswerInvalid(Exception):
    """The model's text is not what the stage's schema asks for."""


def parse_answer(text: str, schema: Json) -> Json:
    """`text` itself where no schema is asked, else the JSON value it holds.

    Raises `AnswerInvalid` when it is not JSON or does not fit the schema.
    """
    if schema is None:
        return text
    try:
        data = parse_json(text)
    except ValueError as error:
        raise AnswerInvalid(f"the answer is not JSON ({error}): {text[:120]!r}") from None
    problem = next(_validator(canonical_json(schema)).iter_errors(data), None)
    if problem is not None:
        raise AnswerInvalid(f"the answer does not fit the schema at {problem.json_path}: {problem.message[:200]}")
    return data


@lru_cache(maxsize=256)
def _validator(schema_text: str) -> Validator:
    return jsonschema.Draft202012Validator(json.loads(schema_text))
