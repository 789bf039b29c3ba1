"""What models write in place of JSON is refused with a reason, and never reaches what must hold it."""

import pytest

from planner.ir.answer import AnswerInvalid, parse_answer
from planner.ir.conversation import ArgumentsInvalid, ToolCall, parse_arguments
from planner.ir.plan import Effect, ToolSpec

LENGTH = ToolSpec("length", Effect.PURE)
NO_JSON = {
    "not a number": '{"x": NaN}',
    "infinite": '{"x": -Infinity}',
    "too large a float": '{"x": 1e400}',
    "thousands of digits": '{"x": ' + "9" * 5000 + "}",
    "nested too deeply": '{"x": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "prose": "Sure! Here is the JSON",
    "cut off": '{"x": [1, 2',
}


@pytest.mark.parametrize("text", NO_JSON.values(), ids=NO_JSON)
def test_an_answer_that_is_no_json_is_invalid(text: str) -> None:
    with pytest.raises(AnswerInvalid, match="the answer is not JSON"):
        parse_answer(text, {"type": "object"})


@pytest.mark.parametrize("text", NO_JSON.values(), ids=NO_JSON)
def test_arguments_that_are_no_json_are_told_to_the_model(text: str) -> None:
    with pytest.raises(ArgumentsInvalid, match="the arguments of length are not JSON"):
        parse_arguments(ToolCall("c1", "length", text), [LENGTH])
