"""Builds the real engine that needs no GPU: `.venv-engine` (CPU vLLM) and `.engine/tiny-llama` (a small model).

Plain Python, standard library only: `python3 scripts/make_engine.py`. What is already there and up to date is left
alone, so a second run ends at once. About 2 minutes and 3.5 GB the first time.

PyTorch must be a CPU build. Where pip finds one by itself nothing is needed; elsewhere set HALO_TORCH_INDEX to the
address of an index of CPU wheels. A CUDA build is refused before it is downloaded.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv-engine"
PYTHON = ENVIRONMENT / "bin" / "python"
MODEL = ROOT / ".engine" / "tiny-llama"
LOCK = ROOT / "requirements" / "engine.txt"
MODEL_RECIPE = ROOT / "scripts" / "make_tiny_llama.py"
PROSE = ROOT / "LICENSE"
TORCH = "torch==2.13.0"
LOCKED_FOR = "3.11"


class CannotBuild(Exception):
    """The engine cannot be built here; the message says why and what to do."""


def main() -> int:
    try:
        build_environment()
        build_model()
    except CannotBuild as problem:
        print(f"make engine: {problem}", file=sys.stderr)
        return 1
    print(f"The engine is ready: {PYTHON.relative_to(ROOT)}, {MODEL.relative_to(ROOT)}")
    return 0


def build_environment() -> None:
    stamp, wanted = ENVIRONMENT / ".halo-stamp", _digest(LOCK, also=TORCH)
    if _stamped(stamp, wanted):
        return
    python = _python()
    _say(f"Installing CPU vLLM into {ENVIRONMENT.name} (about 2 minutes)")
    _run([python, "-m", "venv", "--clear", str(ENVIRONMENT)])
    _install_torch()
    _pip("install", "--no-deps", "--require-hashes", "-r", str(LOCK))
    _run([str(PYTHON), "-c", "import vllm.entrypoints.openai.api_server"], quiet=True)
    stamp.write_text(wanted)


def build_model() -> None:
    stamp, wanted = MODEL / ".halo-stamp", _digest(MODEL_RECIPE, also=PROSE.name)
    if _stamped(stamp, wanted):
        return
    _say(f"Making a small model in {MODEL.relative_to(ROOT)}")
    shutil.rmtree(MODEL, ignore_errors=True)
    MODEL.mkdir(parents=True)
    _run([str(PYTHON), str(MODEL_RECIPE), str(MODEL), "--prose", str(PROSE)], quiet=True)
    stamp.write_text(wanted)


def _python() -> str:
    """The Python the lock file was compiled for: this one, or another on the path."""
    if platform.system() != "Linux":
        raise CannotBuild(f"CPU vLLM runs on Linux only, this is {platform.system()}. Use any vLLM server by its URL.")
    if platform.python_version().startswith(LOCKED_FOR + "."):
        return sys.executable
    found = shutil.which(f"python{LOCKED_FOR}")
    if found is None:
        raise CannotBuild(
            f"needs Python {LOCKED_FOR}, this is {platform.python_version()}. Install python{LOCKED_FOR}."
        )
    return found


def _install_torch() -> None:
    _refuse_cuda()
    _pip("install", "--no-deps", *_torch_index(), TORCH)


def _refuse_cuda() -> None:
    """Asks pip what it would install, before it downloads gigabytes."""
    report = _pip("install", "--dry-run", "--no-deps", "--quiet", "--report", "-", *_torch_index(), TORCH)
    found = json.loads(report)["install"]
    metadata = found[0]["metadata"] if found else {"version": "none", "requires_dist": []}
    if not found or any(need.startswith(("nvidia-", "cuda-")) for need in metadata.get("requires_dist", [])):
        raise CannotBuild(
            f"pip finds no CPU build of {TORCH} here, only {metadata['version']}, which brings CUDA. "
            "Set HALO_TORCH_INDEX to the address of PyTorch's index of CPU wheels and run it again."
        )


def _torch_index() -> list[str]:
    index = os.environ.get("HALO_TORCH_INDEX")
    return ["--index-url", index] if index else []


def _pip(*arguments: str) -> str:
    return _run([str(PYTHON), "-m", "pip", "--disable-pip-version-check", *arguments], quiet=True)


def _run(command: list[str], quiet: bool = False) -> str:
    """Runs it and gives its output. What it wrote is shown only when it failed."""
    done = subprocess.run(command, capture_output=quiet, text=True, cwd=ROOT, check=False)
    if done.returncode == 0:
        return done.stdout or ""
    tail = "\n".join(((done.stdout or "") + (done.stderr or "")).splitlines()[-30:])
    raise CannotBuild(f"this command failed with code {done.returncode}:\n  {' '.join(command)}\n{tail}")


def _stamped(stamp: Path, wanted: str) -> bool:
    return stamp.exists() and stamp.read_text() == wanted


def _digest(file: Path, also: str) -> str:
    return hashlib.sha256(file.read_bytes() + also.encode()).hexdigest()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
