"""Halo: agent programs on fleets of vLLM engines.

    import halo

    @halo.llm(model="sql", max_tokens=256)
    def draft(question: str) -> str:
        return f"Write one SQL query that answers: {question}"

    @halo.workflow
    def ask(question: str) -> str:
        return draft(question)

`ask("...")` runs it inline, `ask.map(rows).run()` on many rows, `ask.submit(...)` on a server; `ask.explain()` tells
what would be done.
"""

from halo.sdk.blocks import blocks
from halo.sdk.client import RunHandle
from halo.sdk.errors import (
    DefinitionInvalid,
    EngineMissing,
    HaloError,
    InputsInvalid,
    LlmInvalid,
    OutsideWorkflow,
    RunFailed,
    SchedulerMissing,
    ServerFailed,
    ToolInvalid,
    WaitTimedOut,
    WorkflowInvalid,
    WorkflowNotFound,
)
from halo.sdk.file_version import file_version
from halo.sdk.find import find_workflow
from halo.sdk.job import Job
from halo.sdk.llm import Llm, llm
from halo.sdk.messages import Message, assistant, system, user
from halo.sdk.stages import AgentAnswer, agent, choose, join, loop, map
from halo.sdk.tool import Tool, tool
from halo.sdk.workflow import Workflow, workflow
from planner.ir.conversation import Reply, ToolCall

__all__ = [
    "AgentAnswer",
    "DefinitionInvalid",
    "EngineMissing",
    "HaloError",
    "InputsInvalid",
    "Job",
    "Llm",
    "LlmInvalid",
    "Message",
    "OutsideWorkflow",
    "Reply",
    "RunFailed",
    "RunHandle",
    "SchedulerMissing",
    "ServerFailed",
    "Tool",
    "ToolCall",
    "ToolInvalid",
    "WaitTimedOut",
    "Workflow",
    "WorkflowInvalid",
    "WorkflowNotFound",
    "agent",
    "assistant",
    "blocks",
    "choose",
    "file_version",
    "find_workflow",
    "join",
    "llm",
    "loop",
    "map",
    "system",
    "tool",
    "user",
    "workflow",
]
