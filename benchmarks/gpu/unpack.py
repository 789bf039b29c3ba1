"""Installs what `benchmarks.gpu.pack` packed, without a network: `python -m benchmarks.gpu.unpack parts`.

Run it with the Python that has PyTorch; it needs nothing but the standard library and pip. It joins the parts, checks
every hash, makes an environment that also sees this Python's own packages, installs without asking any index, and says
what is missing still. Parts may come one at a time: it says which are not there yet.
"""

import argparse
import json
import platform
import shutil
import site
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.gpu.parts import BadParts, join, read_manifest

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = ROOT / ".venv-gpu"
#: What an engine needs at its start: said in JSON, an error instead of what cannot be.
PROBE = """
import json
try:
    import torch
    import vllm.entrypoints.openai.api_server
    found = {"vllm": vllm.__version__, "torch": torch.__version__}
    found["device"] = torch.cuda.get_device_name(0) if torch.cuda.is_available() else ""
except Exception as problem:
    found = {"error": f"{type(problem).__name__}: {problem}"}
print("\\n" + json.dumps(found))
"""


class CannotUnpack(Exception):
    """The message says why, for people."""


def main() -> int:
    arguments = _arguments()
    try:
        _refuse_other_machine(read_manifest(arguments.parts).python)
        wheels = join(arguments.parts, arguments.wheels or arguments.parts / "wheels")
        python = make_environment(arguments.venv)
        print(f"installing {len(wheels)} wheels into {arguments.venv}", flush=True)
        install(python, wheels)
    except (BadParts, CannotUnpack, OSError) as problem:
        print(f"unpack: {problem}", file=sys.stderr)
        return 1
    missing = [*unmet(python, wheels), *([] if arguments.no_probe else _probe(python))]
    for line in missing:
        print(f"missing: {line}", file=sys.stderr)
    if not missing:
        print(f"Ready: {python} -m benchmarks.gpu.ladder")
    return 1 if missing else 0


def _refuse_other_machine(wanted: str) -> None:
    """Raises `CannotUnpack`."""
    here = ".".join(platform.python_version_tuple()[:2])
    if here != wanted:
        raise CannotUnpack(
            f"this is Python {here}, the parts are for {wanted}: run it with that, or pack --python {here}"
        )
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise CannotUnpack(f"the parts are for Linux on x86_64, this is {platform.system()} on {platform.machine()}")


def make_environment(folder: Path) -> Path:
    """Its Python. It finds its own packages first, then those of the Python that runs this.

    A virtual environment made from another sees only the system's packages, and not the other's: a path file adds
    these. Raises `CannotUnpack` where something else is in the way.
    """
    if folder.exists():
        if not (folder / "pyvenv.cfg").exists():
            raise CannotUnpack(f"{folder} is there and no virtual environment: choose another --venv")
        shutil.rmtree(folder)
    venv.EnvBuilder(system_site_packages=True, symlinks=True).create(folder)
    own = sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)})
    lines = [f"import site; site.addsitedir({path!r})" for path in site.getsitepackages()]
    Path(own, "parent.pth").write_text("\n".join(lines) + "\n")
    return folder / "bin" / "python"


def install(python: Path, wheels: Sequence[Path]) -> None:
    """Raises `CannotUnpack`."""
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    done = subprocess.run(
        [*pip, "--no-index", "--no-deps", "--no-cache-dir", *map(str, wheels)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CannotUnpack(f"pip could not install the wheels:\n{done.stderr}")


def unmet(python: Path, wheels: Iterable[Path]) -> list[str]:
    """What the installed packages need and do not find. Quarrels among other packages are none of ours."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "check"]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    carried = {_plain(wheel.name.partition("-")[0]) for wheel in wheels}
    return [line for line in said.splitlines() if _plain(line.partition(" ")[0]) in carried]


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def _probe(python: Path) -> list[str]:
    """Imports what serves. Tells the versions and the device."""
    done = subprocess.run([str(python), "-c", PROBE], capture_output=True, text=True, check=False)
    found = json.loads(done.stdout.splitlines()[-1]) if not done.returncode else {"error": done.stderr[-2000:]}
    if "error" in found:
        return [f"vLLM cannot be imported: {found['error']}"]
    print(f"vLLM {found['vllm']}, PyTorch {found['torch']}, {found['device'] or 'no GPU'}")
    return [] if found["device"] else ["a GPU: PyTorch finds none"]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", type=Path, metavar="DIR", help="with the parts and their manifest")
    parser.add_argument("--wheels", type=Path, metavar="DIR", help="where the wheels go; DIR/wheels unless told")
    parser.add_argument("--venv", type=Path, default=ENVIRONMENT, help="is made anew")
    parser.add_argument("--no-probe", action="store_true", help="do not import vLLM nor look for the GPU")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
