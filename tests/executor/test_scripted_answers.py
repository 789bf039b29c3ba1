"""What scripted and modelled engines answer: recorded, made up, or told by a function."""

import json
from dataclasses import replace
from random import Random

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executor.engines.answers import Answer, FromFunction, completion_of
from executor.engines.instances import SchemaUnsupported, instance_of
from executor.engines.port import Completion, EngineFailed, FailureClass, GenerateRequest, Usage
from executor.engines.recorded import Recorded, RecordedLine, read_recorded, recorded_line
from executor.engines.synthetic import Synthetic
from executor.errors import AnswersInvalid
from planner.ir.conversation import Reply, ToolCall, Turn, continue_conversation
from planner.ir.plan import Sampling
from planner.ir.tokens import estimate_tokens

TREE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "label": {"type": "string", "maxLength": 6},
                "left": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
            },
            "required": ["label", "left"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/node",
}
SEARCH = {
    "type": "function",
    "function": {
        "name": "search",
        "parameters": {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
    },
}


def request(text="How many rivers are there?", call_id="job/1:ask@1", **fields):
    sampling = fields.pop("sampling", Sampling(max_tokens=400))
    messages = ({"role": "user", "content": text},)
    return GenerateRequest(call_id, "job/1", "tiny", messages, sampling, **fields)


def failure_of(answers, asked):
    with pytest.raises(EngineFailed) as caught:
        answers.answer(asked)
    return caught.value.failure


# A strategy of schemas as SDKs write them, nested at most three deep.
def bounded(kind, low, high):
    return st.tuples(st.integers(low, high), st.integers(0, 20)).map(
        lambda pair: {"type": kind, "minimum": pair[0], "maximum": pair[0] + pair[1]}
    )


leaf_schemas = st.one_of(
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"const": 7}, {"enum": ["a", "b"]}, {"type": "integer"}]),
    st.integers(0, 30).map(lambda n: {"type": "string", "maxLength": n}),
    st.integers(0, 30).map(lambda n: {"type": "string", "minLength": n, "maxLength": n + 3}),
    bounded("integer", -50, 50),
    bounded("number", -50, 50),
    st.integers(-5, 5).map(lambda n: {"type": "integer", "exclusiveMinimum": n}),
    st.integers(-5, 5).map(lambda n: {"type": "number", "exclusiveMaximum": n}),
    st.integers(1, 9).map(lambda n: {"type": "integer", "multipleOf": n, "minimum": 3}),
)


def objects(schemas):
    fields = st.dictionaries(st.sampled_from("abcd"), schemas, max_size=3)
    return st.tuples(fields, st.booleans(), st.booleans()).map(
        lambda drawn: {
            "type": "object",
            "properties": drawn[0],
            "required": sorted(drawn[0]) if drawn[1] else [],
            "additionalProperties": drawn[2],
        }
    )


def arrays(schemas):
    return st.tuples(schemas, st.integers(0, 3), st.integers(0, 3)).map(
        lambda drawn: {"type": "array", "items": drawn[0], "minItems": drawn[1], "maxItems": drawn[1] + drawn[2]}
    )


any_schema = st.recursive(
    leaf_schemas,
    lambda inner: st.one_of(
        objects(inner), arrays(inner), st.lists(inner, min_size=1, max_size=3).map(lambda options: {"anyOf": options})
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(any_schema, st.integers(0, 2**32), st.sampled_from([0, 1, 3]))
def test_an_instance_fits_its_schema(schema, seed, spare):
    jsonschema.Draft202012Validator(schema).validate(instance_of(schema, Random(seed), spare))


@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_a_schema_that_contains_itself_comes_to_an_end(seed):
    jsonschema.Draft202012Validator(TREE).validate(instance_of(TREE, Random(seed)))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "^a+$"},
        {"$ref": "#/$defs/missing"},
        {"$ref": "https://example.com/schema"},
        {"type": "integer", "minimum": 3, "maximum": 2},
        {
            "$defs": {"n": {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}, "required": ["n"]}},
            "$ref": "#/$defs/n",
        },
        False,
        {"enum": []},
        {"type": "string", "minLength": 10**9},
        {"type": "array", "minItems": 10**9},
        {"type": "object", "minProperties": 10**9},
        {"type": "array", "minItems": 200, "items": {"type": "array", "minItems": 200}},
    ],
)
def test_a_schema_it_cannot_serve_is_refused(schema):
    with pytest.raises(SchemaUnsupported):
        instance_of(schema, Random(0))


def test_a_synthetic_answer_depends_on_what_is_asked_and_on_the_seed():
    greedy = request()
    assert Synthetic(1).answer(greedy) == Synthetic(1).answer(replace(greedy, call_id="another"))
    assert Synthetic(1).answer(greedy) != Synthetic(2).answer(greedy)
    assert Synthetic(1).answer(greedy) != Synthetic(1).answer(request("Another question"))


def test_asked_twice_without_a_seed_it_gives_two_answers():
    sampled = request(sampling=Sampling(temperature=1.0))
    assert Synthetic().answer(sampled) != Synthetic().answer(replace(sampled, call_id="job/1:ask@2"))
    seeded = request(sampling=Sampling(temperature=1.0, seed=5))
    assert Synthetic().answer(seeded) == Synthetic().answer(replace(seeded, call_id="job/1:ask@2"))


def test_synthetic_lengths_have_a_heavy_tail():
    answers = [Synthetic().answer(request(f"question {n}", sampling=Sampling(max_tokens=4000))) for n in range(500)]
    lengths = sorted(estimate_tokens(answer.text) for answer in answers)
    assert 40 <= lengths[250] <= 90
    assert lengths[-1] > 5 * lengths[250]
    assert len({answer.text for answer in answers}) == 500


@settings(deadline=None)
@given(st.integers(1, 200), st.integers(0, 1000))
def test_prose_stays_within_max_tokens(max_tokens, number):
    asked = request(f"question {number}", sampling=Sampling(max_tokens=max_tokens))
    completion = completion_of(asked, Synthetic().answer(asked), 10)
    assert 1 <= completion.usage.output_tokens <= max_tokens


@settings(deadline=None, max_examples=50)
@given(any_schema, st.integers(0, 1000))
def test_a_guided_answer_is_json_that_fits(schema, number):
    asked = request(f"question {number}", schema=schema)
    jsonschema.Draft202012Validator(schema).validate(json.loads(Synthetic().answer(asked).text))


def test_a_schema_nobody_can_serve_fails_the_row():
    failure = failure_of(Synthetic(), request(schema={"type": "string", "pattern": "x"}))
    assert (failure.failure_class, failure.code) == (FailureClass.ROW, "schema_unsupported")


def test_a_conversation_with_tools_calls_one_and_ends():
    for number in range(20):
        opening, turns = [{"role": "user", "content": f"question {number}"}], []
        while True:
            messages = tuple(continue_conversation(opening, turns))
            answer = Synthetic().answer(replace(request(), messages=messages, tools=(SEARCH,)))
            if not answer.tool_calls:
                break
            assert list(json.loads(answer.tool_calls[0].arguments)) == ["query"]
            turns.append(Turn(Reply(answer.text, answer.tool_calls), ("found",)))
        assert 1 <= len(turns) < 20
        assert answer.text


def test_what_was_recorded_is_answered_again(tmp_path):
    asked = request(tools=(SEARCH,))
    first = Completion("12", Usage(9, 3))
    second = Completion("", Usage(9, 4), (ToolCall("c1", "search", '{"query": "Rhine\u2028"}'),), "tool_calls")
    other = request("Which is the longest?")
    path = tmp_path / "answers.jsonl"
    path.write_text(recorded_line(asked, second) + "\n\n" + recorded_line(other, first) + "\n", encoding="utf-8")

    answers = read_recorded(path)

    assert completion_of(asked, answers.answer(asked), 9) == second
    assert completion_of(other, answers.answer(replace(other, model="a stand-in")), 9) == first


def test_recorded_twice_a_fixed_request_gets_the_newest_and_a_sampled_one_either():
    asked, sampled = request(), request(sampling=Sampling(temperature=1.0))
    lines = [recorded_line(asked, Completion(text, Usage())) for text in ("old", "new")]
    answers = Recorded([RecordedLine.model_validate_json(line) for line in lines])
    assert answers.answer(asked).text == "new"
    drawn = {answers.answer(replace(sampled, call_id=f"call {n}")).text for n in range(20)}
    assert drawn == {"old", "new"}


def test_a_line_may_name_a_text_of_the_prompt():
    answers = Recorded([RecordedLine(contains="rivers", text="12"), RecordedLine(contains="", text="no idea")])
    assert answers.answer(request()).text == "12"
    assert answers.answer(request("Else?")).text == "no idea"


def test_a_request_that_was_not_recorded_fails_with_its_key():
    failure = failure_of(Recorded([]), request())
    assert (failure.failure_class, failure.code) == (FailureClass.ROW, "no_recorded_answer")


def test_every_bad_line_of_a_file_is_told(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text('{"text": "for whom?"}\nnonsense\n{"key": "k", "txt": 1}\n{"key": "k", "text": "good"}\n')
    with pytest.raises(AnswersInvalid) as caught:
        read_recorded(path)
    assert [problem.where.rpartition(":")[2] for problem in caught.value.problems] == ["1", "2", "3"]
    with pytest.raises(AnswersInvalid, match="cannot be read"):
        read_recorded(tmp_path / "missing.jsonl")


def test_a_function_may_answer_with_text_or_an_answer():
    assert FromFunction(lambda asked: asked.model).answer(request()) == Answer("tiny")
    assert FromFunction(lambda _: Answer("x", output_tokens=9)).answer(request()).output_tokens == 9


def test_a_function_that_fails_fails_the_row():
    assert failure_of(FromFunction(lambda _: 1 / 0), request()).code == "answer_failed"
    assert "int" in failure_of(FromFunction(lambda _: 3), request()).message


def test_an_answer_ends_at_a_stop_word_or_at_max_tokens():
    stopped = completion_of(request(sampling=Sampling(stop=("END", "."))), Answer("one. two END"), 1)
    assert (stopped.text, stopped.finish_reason) == ("one", "stop")
    cut = completion_of(request(sampling=Sampling(max_tokens=2)), Answer("0123456789"), 1)
    assert (cut.text, cut.finish_reason, cut.usage.output_tokens) == ("01234567", "length", 2)


def test_half_a_surrogate_pair_in_a_prompt_is_answered_like_any_other_text() -> None:
    """A tool may return one, and it may then stand in a prompt."""
    assert Synthetic().answer(request("half \ud83d")).text
