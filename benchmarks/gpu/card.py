"""The GPU and the vLLM of an interpreter, as it says itself."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.kv.lab import CannotRun

PROBE = """
import json
from importlib.util import find_spec
import torch
from vllm.version import __version__
here = torch.cuda.is_available()
print("\\n" + json.dumps({
    "vllm": __version__,
    "torch": torch.__version__,
    "endpoint_plugins": find_spec("vllm.plugins.endpoint_plugins") is not None,
    "device": torch.cuda.get_device_name(0) if here else "",
    "memory_bytes": torch.cuda.get_device_properties(0).total_memory if here else 0,
}))
"""


@dataclass(frozen=True, slots=True)
class Card:
    """The first GPU; no `device` where there is none. vLLM 0.24 has no endpoint plugins."""

    vllm: str
    torch: str
    endpoint_plugins: bool
    device: str
    memory_bytes: int

    def __str__(self) -> str:
        where = f"{self.device}, {self.memory_bytes / 2**30:.0f} GiB" if self.device else "no GPU"
        return f"{where}; vLLM {self.vllm}, PyTorch {self.torch}"


def card_of(python: Path) -> Card:
    """What `python` finds. Raises `CannotRun` where it has no vLLM or no PyTorch."""
    try:
        done = subprocess.run([str(python), "-c", PROBE], capture_output=True, text=True, check=False)
    except OSError as problem:
        raise CannotRun(f"{python} does not run: {problem}") from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise CannotRun(f"{python} cannot serve ({said[-1]}): run benchmarks.gpu.unpack, or name another --python")
    return Card(**json.loads(done.stdout.splitlines()[-1]))
