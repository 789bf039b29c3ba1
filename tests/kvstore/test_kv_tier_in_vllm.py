"""The parts of the KV tier that need torch and vLLM, checked in the engine's own environment."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-engine" / "bin" / "python"


@pytest.mark.engine
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not PYTHON.exists(), reason="no real engine: run `make engine` first")
def test_the_parts_that_need_vllm() -> None:
    script = ROOT / "tests" / "kvstore" / "kv_tier_checks.py"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "kvstore" / "vllm_plugin"), "VLLM_TARGET_DEVICE": "cpu"}
    done = subprocess.run([PYTHON, script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "tenants_have_no_block_hash_in_common"
