"""Which engine takes a ready call."""

from collections.abc import Sequence
from dataclasses import dataclass

from executor.engines.port import EngineSpec
from planner.cost.load import load_seconds
from planner.ir.ids import EngineId


@dataclass(frozen=True, slots=True)
class EngineView:
    """What is believed of an engine: what runs inside it, and how many seconds of work that is."""

    spec: EngineSpec
    up: bool = True
    running: int = 0
    load_s: float = 0.0
    exclusive: bool = False  # a suspected call runs there and nothing may run beside it
    failures: int = 0  # in a row
    trips: int = 0  # times it was taken out since it last answered


@dataclass(frozen=True, slots=True)
class CallView:
    """What routing may know of a call. A `suspect` was in flight on engines that died: it must run alone."""

    model: str
    prompt_tokens: int
    output_tokens: int
    avoid: tuple[EngineId, ...] = ()
    suspect: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    engine: EngineId
    load_s: float
    reason: str


def choose_engine(call: CallView, fleet: Sequence[EngineView]) -> Choice | None:
    """The engine with the least predicted load that has room; `None` means not now.

    Engines the call should avoid are taken only when no other serves its model. Ties go to the smaller id.
    """
    serving = [view for view in fleet if view.up and call.model in view.spec.models]
    preferred = [view for view in serving if view.spec.id not in call.avoid] or serving
    open_now = [view for view in preferred if _has_room(view, call)]
    if not open_now:
        return None
    loads = {view.spec.id: view.load_s + _seconds(call, view) for view in open_now}
    best = min(open_now, key=lambda view: (loads[view.spec.id], view.spec.id))
    reason = f"least predicted load: {loads[best.spec.id]:.3f} s of {len(open_now)} with room"
    return Choice(best.spec.id, _seconds(call, best), reason)


def _has_room(view: EngineView, call: CallView) -> bool:
    if view.exclusive or (call.suspect and view.running > 0):
        return False
    return view.running < view.spec.max_running


def _seconds(call: CallView, view: EngineView) -> float:
    model = view.spec.served_names.get(call.model, call.model)
    spec = view.spec
    return load_seconds(spec.gpu, model, call.prompt_tokens, call.output_tokens, spec.tensor_parallel, spec.profile)
