"""Packs vLLM for a machine with PyTorch, a CUDA GPU and no network, in parts that are small enough to be carried.

    there:  python -m pip list --format=freeze > there.txt
    here:   python -m benchmarks.gpu.pack --out DIR --there there.txt
    there:  python -m benchmarks.gpu.unpack DIR/parts

pip downloads the wheels of vLLM, of what the ladder's clients need, and of all that these need and that is not there,
for the Python and the kind of machine there. PyTorch and what comes with it must be there. Without `--there`, nothing
else is taken to be there. Run again after a broken download, it goes on where it was.

Packages of GPU kernels that a dense Llama on vLLM's own attention does without are left out (`--whole` takes them too):
they are larger than vLLM itself.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import Version

from benchmarks.gpu.needs import (
    NotReadable,
    environment_of,
    is_met,
    needs_of,
    together,
    version_of,
    versions_in,
    wheels_in,
)
from benchmarks.gpu.parts import cut

VLLM = "vllm==0.24.*"
#: What the ladder imports beside the standard library.
CLIENTS = ("aiohttp", "jsonschema", "pydantic", "uvloop")
#: Too large to carry, and bound to the GPU's driver.
WITH_TORCH = frozenset({"torch", "torchaudio", "torchvision", "triton"})
KERNELS = frozenset(
    {
        "apache-tvm-ffi",
        "fastsafetensors",
        "flashinfer-cubin",
        "flashinfer-python",
        "humming-kernels",
        "nvidia-cudnn-frontend",
        "nvidia-cutlass-dsl",
        "quack-kernels",
        "tilelang",
        "tokenspeed-mla",
    }
)
#: pip takes a wheel only for platforms that are named: those of Linux with this glibc or an older one.
OLDEST_GLIBC, NEWEST_GLIBC = 5, 39
PART_MB, MOST_PART_MB = 55, 60
MOST_DEPTH = 50


class CannotPack(Exception):
    """The message says why, for people."""


@dataclass(frozen=True, slots=True)
class Goods:
    """What is to be carried: `roots` and their needs, but for what is `there` and what is `left_out`."""

    roots: tuple[Requirement, ...]
    there: Mapping[str, Version]
    left_out: frozenset[str]
    python: str

    def chosen(self, folder: Path) -> tuple[list[Path], list[Requirement]]:
        """The wheels in `folder` that are to be carried, and what is still to be downloaded.

        Raises `NotReadable`, `CannotPack`.
        """
        wheels, needs = wheels_in(folder), list(self.roots)
        for _ in range(MOST_DEPTH):
            wanted = {name: need for name, need in together(needs).items() if self._is_wanted(name, need)}
            found = {name: wheel for name, need in wanted.items() if (wheel := _fitting(wheels.get(name, ()), need))}
            grown = [*self.roots, *self._needs_of(found, wanted)]
            if grown == needs:
                return list(found.values()), [need for name, need in wanted.items() if name not in found]
            needs = grown
        raise CannotPack("what the packages need of each other does not settle: name versions with --also")

    def _is_wanted(self, name: str, need: Requirement) -> bool:
        """With extras it is carried in any case: what they need stands in the wheel alone."""
        return name not in self.left_out and bool(need.extras or not is_met(need, self.there.get(name)))

    def _needs_of(self, found: Mapping[str, Path], wanted: Mapping[str, Requirement]) -> Iterator[Requirement]:
        environment = environment_of(self.python)
        for name, wheel in found.items():
            yield from needs_of(wheel, sorted(wanted[name].extras), environment)


def _fitting(wheels: Sequence[Path], need: Requirement) -> Path | None:
    return next((wheel for wheel in wheels if is_met(need, version_of(wheel))), None)


def main() -> int:
    arguments = _arguments()
    try:
        goods = Goods(
            roots=tuple(map(Requirement, (arguments.vllm, *CLIENTS, *arguments.also))),
            there=versions_in(arguments.there.read_text()) if arguments.there else {},
            left_out=WITH_TORCH | (frozenset() if arguments.whole else KERNELS) | frozenset(arguments.without),
            python=arguments.python,
        )
        _pack(goods, arguments.out, arguments.part_mb * 1_000_000)
    except (CannotPack, NotReadable, InvalidRequirement, OSError) as problem:
        print(f"pack: {problem}", file=sys.stderr)
        return 1
    return 0


def _pack(goods: Goods, out: Path, part_bytes: int) -> None:
    wheels = gather(goods, out / "wheels")
    for wheel in sorted(wheels, key=lambda wheel: -wheel.stat().st_size):
        print(f"{wheel.stat().st_size / 1e6:8.1f} MB  {wheel.name}")
    manifest = cut(sorted(wheels), out / "parts", part_bytes, goods.python)
    most = max(part.size_bytes for part in manifest.parts)
    total = sum(part.size_bytes for part in manifest.parts)
    print(f"{len(wheels)} wheels, {total / 1e6:.0f} MB, in {len(manifest.parts)} parts of {most / 1e6:.1f} MB at most")
    print(f"Left out, as there or not needed: {', '.join(sorted(goods.left_out))}")
    print(f"Bring {out / 'parts'} there, all at once or part by part, and run: python -m benchmarks.gpu.unpack parts")


def gather(goods: Goods, folder: Path) -> list[Path]:
    """Downloads into `folder` what is not there yet; gives the wheels to carry. Raises `CannotPack`, `NotReadable`."""
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        wheels, missing = goods.chosen(folder)
        if not missing:
            return wheels
        print(f"downloading {', '.join(map(str, missing))}", flush=True)
        _download(missing, folder, goods.python)


def _download(needs: Sequence[Requirement], folder: Path, python: str) -> None:
    command = [sys.executable, *download_arguments(needs, folder, python)]
    if subprocess.run(command, check=False).returncode:
        raise CannotPack("pip could not download all of these; run again to go on. What has no wheel: --without NAME")


def download_arguments(needs: Sequence[Requirement], folder: Path, python: str) -> list[str]:
    """Of `python`: pip, for another Python than this one. It leaves alone what lies in `folder`."""
    platforms = [f"manylinux_2_{glibc}_x86_64" for glibc in range(NEWEST_GLIBC, OLDEST_GLIBC - 1, -1)]
    platforms += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"]
    return [
        *("-m", "pip", "--disable-pip-version-check", "download", "--no-deps", "--only-binary", ":all:"),
        *("--python-version", python, "--implementation", "cp"),
        *(word for platform in platforms for word in ("--platform", platform)),
        *("--dest", str(folder), *map(_plain, needs)),
    ]


def _plain(need: Requirement) -> str:
    """Without extras: each of their needs is asked for by itself."""
    return f"{need.name}{need.specifier}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="gets DIR/wheels and DIR/parts")
    parser.add_argument("--there", type=Path, metavar="FILE", help="`pip list --format=freeze` of the other machine")
    parser.add_argument("--vllm", default=VLLM, help="the requirement; it has to be built for the PyTorch there")
    parser.add_argument("--also", action="append", default=[], metavar="REQUIREMENT")
    parser.add_argument("--without", action="append", default=[], metavar="NAME")
    parser.add_argument("--whole", action="store_true", help="leave out no kernels")
    parser.add_argument("--python", default="3.12", help="the version there")
    parser.add_argument("--part-mb", type=_part_mb, default=PART_MB, help=f"of a part at most; below {MOST_PART_MB}")
    return parser.parse_args()


def _part_mb(text: str) -> int:
    size = int(text)
    if not 0 < size < MOST_PART_MB:
        raise argparse.ArgumentTypeError(f"{size} is not between 1 and {MOST_PART_MB - 1}")
    return size


if __name__ == "__main__":
    sys.exit(main())
