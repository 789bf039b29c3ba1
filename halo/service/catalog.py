"""The workflows a service knows, by name, and the tools that come with them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from executor.tools import ToolBody
from halo.sdk.errors import DefinitionInvalid, WorkflowNotFound
from halo.sdk.find import find_workflow, known_workflows
from halo.sdk.workflow import Workflow
from halo.settings import SettingsInvalid
from planner.errors import Problem


@dataclass(frozen=True, slots=True)
class Catalog:
    workflows: Mapping[str, Workflow[..., Any]] = field(default_factory=dict)
    tools: Mapping[str, ToolBody] = field(default_factory=dict)


def load_catalog(references: Sequence[str]) -> Catalog:
    """The workflows by these references; without any, those that installed packages registered.

    Raises `SettingsInvalid` with every reference that leads nowhere, and every name that means two things.
    """
    problems: list[Problem] = []
    found = [workflow for name in references or known_workflows() if (workflow := _find(name, problems))]
    catalog = make_catalog(found, problems)
    if problems:
        raise SettingsInvalid(tuple(problems))
    return catalog


def make_catalog(found: Sequence[Workflow[..., Any]], problems: list[Problem]) -> Catalog:
    """`problems` grows by each workflow or tool whose name another one has."""
    workflows: dict[str, Workflow[..., Any]] = {}
    tools: dict[str, ToolBody] = {}
    for workflow in found:
        if workflows.setdefault(workflow.name, workflow) is not workflow:
            problems.append(_taken("workflow", workflow.name))
        for name, tool in workflow.tools.items():
            if tools.setdefault(name, tool).spec != tool.spec:
                problems.append(_taken("tool", name))
    return Catalog(workflows, tools)


def _find(reference: str, problems: list[Problem]) -> Workflow[..., Any] | None:
    try:
        return find_workflow(reference)
    except (WorkflowNotFound, DefinitionInvalid) as error:
        fix = "name module:attribute, file.py:attribute, or an installed workflow"
        problems.append(Problem(f"workflows {reference!r}", str(error), fix))
        return None


def _taken(what: str, name: str) -> Problem:
    return Problem("workflows", f"two of them bring a {what} called {name!r}", "rename one")
