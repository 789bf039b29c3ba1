"""Workflows by reference, from modules, files and entry points."""

import sys
from pathlib import Path

import pytest

import halo
from halo.sdk.find import find_workflow

GOOD = """
import halo
import neighbour_of_flow

@halo.workflow
def summarise(text: str) -> str:
    return text

@halo.workflow
def translate(text: str) -> str:
    return text

@halo.tool(isolated=True)
def count(text: str) -> int:
    return len(text)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Its own folder to be in; modules found there are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", sys.modules.copy())
    (tmp_path / "neighbour_of_flow.py").write_text("")
    (tmp_path / "flow_of_test.py").write_text(GOOD)
    return tmp_path


def test_by_file_and_by_module(folder: Path) -> None:
    assert find_workflow("flow_of_test.py:summarise").name == "summarise"
    assert find_workflow(f"{folder}/flow_of_test.py:translate").name == "translate"
    assert find_workflow("flow_of_test:translate").name == "translate"


def test_a_file_with_one_workflow_needs_no_name(folder: Path) -> None:
    (folder / "single_of_test.py").write_text(
        "import halo\n@halo.workflow\ndef one(text: str) -> str:\n    return text\n"
    )
    assert find_workflow("single_of_test.py").name == "one"
    with pytest.raises(halo.WorkflowNotFound, match=r"has 2 workflows; say which, as in flow_of_test\.py:name"):
        find_workflow("flow_of_test.py")


def test_a_wrong_name_lists_the_known_and_the_likely(folder: Path) -> None:
    with pytest.raises(halo.WorkflowNotFound) as caught:
        find_workflow("flow_of_test.py:summarize")
    told = "flow_of_test.py has no 'summarize'; did you mean 'summarise'?; the workflows are: summarise, translate"
    assert str(caught.value) == told
    with pytest.raises(halo.WorkflowNotFound, match="is a Tool, not a workflow: put @halo"):
        find_workflow("flow_of_test.py:count")


def test_what_is_not_there(folder: Path) -> None:
    with pytest.raises(halo.WorkflowNotFound, match=r"there is no file 'nowhere\.py'; you are in"):
        find_workflow("nowhere.py:x")
    with pytest.raises(halo.WorkflowNotFound, match="there is no module 'nowhere_at_all'; you are in"):
        find_workflow("nowhere_at_all:x")
    with pytest.raises(halo.WorkflowNotFound, match="no workflow is called 'nothing-like-it'"):
        find_workflow("nothing-like-it")


def test_modules_that_fail_name_the_line(folder: Path) -> None:
    (folder / "broken_of_test.py").write_text("x = 1\nraise LookupError('gone')\n")
    (folder / "leaving_of_test.py").write_text("import sys\nsys.exit(4)\n")
    (folder / "needy_of_test.py").write_text("import not_there_at_all\n")
    (folder / "wrong_of_test.py").write_text("import halo\n@halo.tool\ndef f(x):\n    return x\n")
    with pytest.raises(halo.WorkflowNotFound, match=r"failed at .*broken_of_test\.py:2: LookupError: gone"):
        find_workflow("broken_of_test.py:x")
    with pytest.raises(halo.WorkflowNotFound, match=r"failed at .*leaving_of_test\.py:2: SystemExit: 4"):
        find_workflow("leaving_of_test.py:x")
    with pytest.raises(halo.WorkflowNotFound, match=r"failed at .*needy_of_test\.py:1: ModuleNotFoundError"):
        find_workflow("needy_of_test.py:x")
    with pytest.raises(halo.ToolInvalid, match=r"wrong_of_test\.py:3: parameter 'x' has no type hint"):
        find_workflow("wrong_of_test.py:x")


def test_a_file_named_like_another_module(folder: Path) -> None:
    (folder / "json.py").write_text(GOOD)
    with pytest.raises(halo.WorkflowNotFound, match=r"json\.py has the name of another module, 'json'; rename"):
        find_workflow("json.py:summarise")


def test_by_the_name_a_package_registered(folder: Path) -> None:
    installed = folder / "flows_of_test-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: flows-of-test\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text(
        "[halo.workflows]\nsummary-of-test = flow_of_test:summarise\nbroken-of-test = flow_of_test:gone\n"
    )
    sys.path.insert(0, str(folder))
    assert find_workflow("summary-of-test").name == "summarise"
    with pytest.raises(halo.WorkflowNotFound, match="no workflow is called 'sumary-of-test'; did you mean"):
        find_workflow("sumary-of-test")
    with pytest.raises(halo.WorkflowNotFound, match="the entry point 'broken-of-test'"):
        find_workflow("broken-of-test")
