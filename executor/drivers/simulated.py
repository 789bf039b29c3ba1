"""The simulated driver: the same core in virtual time, against modelled engines. Tools are really run, at once; only
their duration is modelled."""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from executor.child_process import ToolFailed
from executor.commands import (
    Abort,
    BeginProgram,
    CallMeAt,
    Command,
    Decide,
    Dispatch,
    FinishJob,
    FinishProgram,
    ForgetShared,
    KeepShared,
    OpenFrame,
    PlanBatch,
    Prepare,
    RunTool,
    SaveNode,
    SaveProgram,
    Settle,
    Status,
    TakeShared,
    UseFallback,
    WatchEngine,
)
from executor.core.limits import Limits
from executor.core.scheduler import Scheduler
from executor.engines.answers import Answers
from executor.engines.model.engine import EngineModel
from executor.engines.port import Completion, EngineFailed, EngineSpec, Failure
from executor.events import (
    BatchPlanned,
    CallFinished,
    Event,
    JobSubmitted,
    NodeFailed,
    ToolFinished,
    WakeUp,
)
from executor.tools import ToolRunner, as_failure
from executor.values import Values
from planner.ir.ids import EngineId, JobId, NodeRef
from planner.ir.plan import Plan, ToolSpec
from planner.ir.values import Json
from planner.job import JobPart
from planner.optimize import optimize
from planner.table import Table
