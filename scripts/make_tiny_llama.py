"""Makes a small random-weight Llama with a tokenizer and a chat template. Run by `.venv-engine`'s Python.

It speaks nonsense, which is enough for what runs through it: chat templates, guided JSON, usage figures, prefix
caching, cancellation. Its weights lean towards ending what it says, so that most answers stop and guided JSON closes.
Nothing is downloaded, and the same recipe gives the same tokenizer, whatever else the repository holds.
"""

import argparse
import random
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 2048
CONTEXT_TOKENS = 16_384
#: Makes embeddings outweigh what the layers add, so that the constant survives to the end.
EMBEDDING_SCALE = 6.0
#: The spread of logits, and the hidden state's constant in terms of the rest of it.
LOGIT_SPREAD, CONSTANT = 3.0, 0.5
TURN_START, TURN_END, PADDING = "<|im_start|>", "<|im_end|>", "<|pad|>"
#: How far the logits of these stand above the others, in spreads. Found by trial: most guided JSON closes.
LEANINGS = {TURN_END: 1.6, '"': 4.4, "}": 3.0, "]": 2.0}

CHAT_TEMPLATE = """\
{%- if tools %}<|im_start|>system
{% if messages[0].role == 'system' %}{{ messages[0].content }}

{% endif %}You may call these tools:
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}To call one, write <tool_call>{"name": NAME, "arguments": ARGUMENTS}</tool_call><|im_end|>
{% endif %}
{%- for message in messages %}
{%- if not (tools and loop.first and message.role == 'system') %}<|im_start|>{{ message.role }}
{% if message.content %}{{ message.content }}{% endif %}
{%- for call in message.tool_calls or [] %}
<tool_call>{"name": {{ call.function.name | tojson }}, "arguments": {{ call.function.arguments | tojson }}}</tool_call>
{%- endfor %}<|im_end|>
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

TABLES = {
    "singer": ("singer_id", "name", "country", "age", "is_male"),
    "concert": ("concert_id", "concert_name", "theme", "stadium_id", "year"),
    "student": ("student_id", "last_name", "first_name", "major", "city_code"),
    "orders": ("order_id", "customer_id", "order_date", "amount", "status"),
    "employee": ("employee_id", "name", "department_id", "salary", "hired_on"),
    "flight": ("flight_no", "source_airport", "destination_airport", "airline"),
}
QUESTIONS = (
    "How many {table} rows have {column} greater than {number}?",
    "Show the {column} of every {table}, ordered by {other} in descending order.",
    "What is the average {column} for each {other} in {table}?",
    "Which {table} has the highest {column}?",
)
QUERIES = (
    "SELECT count(*) FROM {table} WHERE {column} > {number}",
    "SELECT {column} FROM {table} ORDER BY {other} DESC",
    "SELECT {other}, avg({column}) FROM {table} GROUP BY {other} HAVING count(*) > {number}",
    "SELECT T1.{column} FROM {table} AS T1 JOIN concert AS T2 ON T1.{other} = T2.year LIMIT 1",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prose", type=Path, action="append", default=[], help="a text file to learn English from")
    arguments = parser.parse_args()
    tokenizer = make_tokenizer(arguments.prose)
    tokenizer.save_pretrained(arguments.folder)
    make_model(tokenizer).save_pretrained(arguments.folder)


def make_tokenizer(prose: list[Path]) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 4,
        special_tokens=[PADDING, TURN_START, TURN_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_text(prose), trainer)
    tokenizer.add_tokens(["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"])
    assert tokenizer.get_vocab_size() <= VOCABULARY
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PADDING,
        eos_token=TURN_END,
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT_TOKENS,
        clean_up_tokenization_spaces=False,
    )


def make_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT_TOKENS,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = LlamaForCausalLM(config)
    _lean(model, dict(zip(tokenizer.convert_tokens_to_ids(list(LEANINGS)), LEANINGS.values(), strict=True)))
    quote, end = tokenizer.convert_tokens_to_ids(['"', TURN_END])
    _after(model, quote, successor=end, logit=20.0)  # a turn ends with its first quote
    _after(model, quote, successor=quote, logit=-20.0)  # a JSON string has something in it
    return model.to(torch.bfloat16)


@torch.no_grad()
def _lean(model: LlamaForCausalLM, leanings: dict[int, float]) -> None:
    """Gives logits a spread of LOGIT_SPREAD and adds to those of the tokens in `leanings`, in spreads.

    Dimension 0 of the hidden state carries that constant: every embedding holds the same value there.
    """
    embeddings, head = model.model.embed_tokens.weight, model.lm_head.weight
    embeddings.mul_(EMBEDDING_SCALE)
    embeddings[:, 0] = CONSTANT * embeddings.norm(dim=1).mean()
    head.mul_(LOGIT_SPREAD / (head.std() * head.shape[1] ** 0.5))
    head[:, 0] = 0
    constant_in_state = (head.shape[1] * CONSTANT**2 / (1 + CONSTANT**2)) ** 0.5
    for token, leaning in leanings.items():
        head[token, 0] = leaning * LOGIT_SPREAD / constant_in_state


@torch.no_grad()
def _after(model: LlamaForCausalLM, token: int, successor: int, logit: float) -> None:
    """Adds about `logit` to what `successor` gets right after `token`."""
    embedding = model.model.embed_tokens.weight[token].clone()
    embedding[0] = 0
    direction = embedding / embedding.norm()
    model.lm_head.weight[successor] += direction * logit / direction.shape[0] ** 0.5


def _text(prose: list[Path]) -> Iterator[str]:
    yield from (path.read_text(encoding="utf-8") for path in prose)
    dice = random.Random(0)
    for _ in range(4000):
        table = dice.choice(sorted(TABLES))
        column, other = dice.sample(TABLES[table], 2)
        words = {"table": table, "column": column, "other": other, "number": dice.randrange(1000)}
        question, query = (dice.choice(texts).format(**words) for texts in (QUESTIONS, QUERIES))
        yield f'Question: {question}\nSQL: {query};\n{{"sql": "{query}", "tables": ["{table}"], "answer": true}}\n'
        yield f"CREATE TABLE {table} ({column} INTEGER PRIMARY KEY, {other} TEXT NOT NULL);\n"


if __name__ == "__main__":
    main()
