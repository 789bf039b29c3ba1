"""The workflows that a service has."""

from halo.service.schemas.base import Row, Told


class WorkflowSummary(Told):
    name: str
    version: str
    stages: int


class WorkflowList(Told):
    workflows: list[WorkflowSummary]


class WorkflowDetails(WorkflowSummary):
    """`inputs` is a JSON schema of a run's input; `plan` is the text people read, `document` the plan as JSON."""

    inputs: Row
    models: list[str]
    tools: list[str]
    plan: str
    document: Row
