"""Clients as people have them, unchanged, against `halo serve`: only the base URL is another."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from served import Served, served

ROOT = Path(__file__).resolve().parent.parent.parent
PYTHON = ROOT / ".venv-clients" / "bin" / "python"
FLEET = """
[[engine]]
id = "small-0"
kind = "modelled"
model = "small"
context_tokens = 32768
options = { answers = "tests.clients.answers:answer", scale = 100.0 }
"""

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="the clients are not installed: run `make clients`")


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    return tmp_path / "calls.jsonl"


@pytest.fixture
def halo(tmp_path: Path, calls: Path) -> Iterator[Served]:
    fleet = tmp_path / "modelled.toml"
    fleet.write_text(FLEET)
    more = {"HALO_FLEET": str(fleet), "HALO_TEST_CALLS": str(calls)}
    with served(tmp_path, "memory://", more) as halo:
        yield halo


def _run(halo: Served, script: str, *arguments: str) -> Any:
    """The last line the script printed."""
    settings = {
        "OPENAI_BASE_URL": f"{halo.url}/v1",
        "OPENAI_API_KEY": "any",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "MSWEA_COST_TRACKING": "ignore_errors",
        "MSWEA_SILENT_STARTUP": "1",
        "MSWEA_GLOBAL_CONFIG_DIR": str(ROOT / ".venv-clients"),
        "LANGSMITH_TRACING": "false",
    }
    done = subprocess.run(
        [PYTHON, ROOT / "tests" / "clients" / script, "small", *arguments],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def _programs(calls: Path, at_least: int = 1) -> list[tuple[str, int]]:
    """Every program the engine heard of, and how many calls it had."""
    told = [json.loads(line)["program"] for line in calls.read_text().splitlines()]
    return [(name, told.count(name)) for name in dict.fromkeys(told) if told.count(name) >= at_least]


def test_the_openai_sdk(halo: Served, calls: Path) -> None:
    seen = _run(halo, "use_openai.py")
    assert seen["models"] == ["small"]
    assert seen["chat"] == ["This is answer 0.", "This is answer 1."]
    assert seen["stream"]["text"] == "This is answer 0."
    assert seen["stream"]["tokens"] > 0
    assert seen["tools"] == {"calls": [["weather", '{"city": "Paris"}']], "text": "This is answer 1."}
    assert seen["errors"] == {
        "unknown": ["NotFoundError", "model_not_found"],
        "empty": ["BadRequestError", "invalid_request"],
    }
    assert seen["async"] == 20
    assert [turns for _, turns in _programs(calls, 2)] == [2, 2]


def test_langchain(halo: Served, calls: Path) -> None:
    seen = _run(halo, "use_langchain.py")
    assert (seen["text"], seen["stream"]) == ("This is answer 0.", "This is answer 0.")
    assert seen["tools"] == ["sunny in Paris", "This is answer 1."]
    assert [turns for _, turns in _programs(calls, 2)] == [2]


@pytest.mark.parametrize("config", ["mini.yaml", "mini_textbased.yaml"])
def test_mini_swe_agent_mends_a_repository(halo: Served, calls: Path, tmp_path: Path, config: str) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / "calc.py").write_text("def add(a, b):\n    return a - b\n")
    (repository / "test_calc.py").write_text(
        "import unittest\n\nfrom calc import add\n\n\n"
        "class Adds(unittest.TestCase):\n    def test_add(self):\n        self.assertEqual(add(2, 2), 4)\n"
    )
    assert _run(halo, "use_mini.py", str(repository), config) == {"exit": "Submitted", "calls": 4}
    assert "a + b" in (repository / "calc.py").read_text()
    assert [turns for _, turns in _programs(calls)] == [4]
