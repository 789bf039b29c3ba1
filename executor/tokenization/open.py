"""From engines' specs to the tokenizers of their models."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from executor.engines.open import api_key_of
from executor.engines.options import HttpOptions
from executor.engines.port import EngineSpec
from executor.tokenization.file import TokenizerFolder
from executor.tokenization.port import Tokenize
from executor.tokenization.vllm import VllmTokenizer
from planner.prefix.texts import BLOCK_TOKENS


def folder_tokenizers(specs: Sequence[EngineSpec]) -> dict[str, Tokenize]:
    """For each model that an engine names a tokenizer folder for. Raises `NotTokenized`."""
    found: dict[str, Tokenize] = {}
    for spec in specs:
        folder = _folder_of(spec)
        if folder and any(model not in found for model in spec.served):
            found = dict.fromkeys(spec.served, TokenizerFolder(folder)) | found
    return found


@asynccontextmanager
async def engine_tokenizers(
    specs: Sequence[EngineSpec], environ: Mapping[str, str]
) -> AsyncIterator[dict[str, VllmTokenizer]]:
    """For each model the tokenizer of the first vLLM server that serves it, to be used inside the block."""
    async with AsyncExitStack() as stack:
        found: dict[str, VllmTokenizer] = {}
        for spec in specs:
            for model in spec.served if spec.kind == "vllm" else ():
                if model not in found:
                    served = spec.served_names.get(model, model)
                    tokenizer = VllmTokenizer(spec.url, served, api_key=api_key_of(spec, environ))
                    found[model] = await stack.enter_async_context(tokenizer)
        yield found


def block_tokens_of(specs: Sequence[EngineSpec]) -> int:
    """Of the engines' prefix caches, as their profiles say; the smallest, for it finds most to share."""
    return min((spec.profile.block_tokens for spec in specs if spec.profile), default=BLOCK_TOKENS)


def _folder_of(spec: EngineSpec) -> Path | None:
    if spec.kind not in {"vllm", "openai"}:
        return None
    named = HttpOptions.model_validate(spec.options).tokenizer
    return Path(named) if named else None
