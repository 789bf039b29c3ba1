"""A model's tokenizer and chat template from its folder, as HuggingFace keeps them: no engine is asked."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from executor.tokenization.port import NotTokenized, TokenIds
from planner.ir.values import Json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_TOKENIZER, _CONFIG, _TEMPLATE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
#: Names of special tokens that templates read.
_SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token")


class TokenizerFolder:
    """Body of the `Tokenize` port. The folder holds `tokenizer.json`, and the chat template in a file of its own or in
    `tokenizer_config.json`. Raises `NotTokenized` where it does not, or where the package `tokenizers` is missing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tokenizer = self._open_tokenizer()
        config = self._config()
        self._special = {name: _text_of(config.get(name)) for name in _SPECIAL if config.get(name)}
        self._template = self._open_template(config)

    async def __call__(self, prompts: Sequence[Sequence[Json]]) -> list[TokenIds]:
        return await asyncio.to_thread(self._encode, prompts)

    def _encode(self, prompts: Sequence[Sequence[Json]]) -> list[TokenIds]:
        try:
            texts = [
                self._template.render(messages=list(prompt), add_generation_prompt=True, **self._special)
                for prompt in prompts
            ]
        except TemplateError as problem:
            raise self._failed(f"its chat template cannot take these messages: {problem}") from None
        encoded = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        return [np.asarray(each.ids, np.int64) for each in encoded]

    def _open_tokenizer(self) -> "Tokenizer":
        try:
            from tokenizers import Tokenizer
        except ImportError:
            what, fix = "the package `tokenizers` is not installed", "pip install 'halo-orchestrator[tokenizers]'"
            raise NotTokenized(str(self._folder), what, fix) from None
        text = self._read(_TOKENIZER)
        if text is None:
            raise self._failed(f"has no {_TOKENIZER}")
        try:
            return Tokenizer.from_str(text)
        except Exception as problem:  # noqa: BLE001 - the library raises nothing narrower
            raise self._failed(f"{_TOKENIZER} is no tokenizer: {problem}") from None

    def _config(self) -> dict[str, Json]:
        try:
            config = json.loads(self._read(_CONFIG) or "{}")
        except ValueError:
            raise self._failed(f"{_CONFIG} is not JSON") from None
        return config if isinstance(config, dict) else {}

    def _open_template(self, config: dict[str, Json]) -> Template:
        """As HuggingFace opens it: the same white space, and what templates call."""
        source = self._read(_TEMPLATE) or config.get("chat_template")
        if not isinstance(source, str):
            raise self._failed("has no chat template")
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        try:
            return environment.from_string(source)
        except TemplateError as problem:
            raise self._failed(f"its chat template is none: {problem}") from None

    def _read(self, name: str) -> str | None:
        try:
            return (self._folder / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as problem:
            raise self._failed(f"{name} cannot be read ({problem})") from None

    def _failed(self, what: str) -> NotTokenized:
        return NotTokenized(str(self._folder), what, "name the folder of the model that the engine serves")


def _text_of(token: Json) -> str:
    """A special token as it is written: a text, or an object that holds it."""
    return str(token["content"]) if isinstance(token, dict) and "content" in token else str(token)


def _to_json(value: Any, indent: int | None = None) -> str:
    """Unlike jinja's own, it escapes nothing for HTML."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> str:
    raise TemplateError(message)
