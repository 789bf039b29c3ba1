"""What holds for the house as a whole."""

import os
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("halo", "planner", "executor", "kvstore", "workloads")


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


def _simulate(hash_seed: str) -> str:
    paths = os.pathsep.join(str(path) for path in (ROOT, ROOT / "tests" / "strategies"))
    environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": paths}
    script = ROOT / "tests" / "strategies" / "simulate_once.py"
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
