"""What holds for the house as a whole."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("halo", "planner", "executor", "kvstore", "workloads")
PLUGIN = ROOT / "kvstore" / "vllm_plugin"


def test_the_same_run_gives_the_same_digest_under_any_hash_seed() -> None:
    digests = {_simulate(hash_seed) for hash_seed in ("0", "1", "4242")}
    assert len(digests) == 1
    assert int(digests.pop().split()[0]) > 300


@pytest.mark.parametrize("package", PACKAGES)
def test_no_other_distribution_claims_our_names(package: str) -> None:
    assert set(packages_distributions().get(package, [])) <= {"halo-orchestrator"}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_folder_of_code_is_a_package(package: str) -> None:
    """A folder without `__init__.py` would be left out of the wheel, and nobody would notice until it is installed."""
    missing = {
        str(file.parent.relative_to(ROOT))
        for file in (ROOT / package).rglob("*.py")
        if not (file.parent / "__init__.py").exists()
    }
    assert not missing


def test_every_module_stands_in_the_table_of_architecture() -> None:
    """By itself, or with the package it is in."""
    named = set(_named_in_table())
    untold = {
        module for module in _modules() if not any(module == one or module.startswith(f"{one}.") for one in named)
    }
    assert not untold


def test_the_table_of_architecture_names_nothing_that_is_gone() -> None:
    known = set(_modules())
    packages = {module.rsplit(".", depth)[0] for module in known for depth in range(1, module.count(".") + 1)}
    assert set(_named_in_table()) <= known | packages | {"workloads.data"}


@pytest.mark.parametrize("lock", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda lock: lock.name)
def test_what_is_pinned_is_pinned_by_hash_and_from_wherever_the_user_gets_packages(lock: Path) -> None:
    lines = [line for line in lock.read_text().splitlines() if line and not line.lstrip().startswith("#")]
    assert all(re.match(r"[\w.-]+==\S+ \\$|    --hash=sha256:[0-9a-f]{64}( \\)?$", line) for line in lines)


def _modules() -> Iterator[str]:
    folders = [(ROOT, name) for name in (*PACKAGES, "benchmarks")] + [(PLUGIN, "halo_vllm")]
    for root, name in folders:
        for file in (root / name).rglob("*.py"):
            own = PLUGIN not in file.parents or root == PLUGIN
            if own and file.stem not in ("__init__", "__main__"):
                yield ".".join(file.relative_to(root).with_suffix("").parts)


def _named_in_table() -> Iterator[str]:
    """`.name` stands beside the name before it."""
    table = (ROOT / "ARCHITECTURE.md").read_text().split("## Modules")[1].split("## Words")[0]
    for line in table.splitlines():
        package = ""
        for name in re.findall(r"`([\w.]+)`", line.split("|")[1]) if line.startswith("| `") else ():
            full = f"{package}{name}" if name.startswith(".") else name
            package = full.rpartition(".")[0]
            yield full


def _simulate(hash_seed: str) -> str:
    paths = os.pathsep.join(str(path) for path in (ROOT, ROOT / "tests" / "strategies"))
    environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": paths}
    script = ROOT / "tests" / "strategies" / "simulate_once.py"
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
