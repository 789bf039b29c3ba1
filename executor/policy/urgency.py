"""Which waiting call is most urgent: by its program's class and slack."""

from executor.policy.asking import Asking, Seat
from executor.slo import SloClass

#: A call is never passed by one of the next more urgent class whose latest start is later than its own by more. So
#: nothing starves: of two calls that differ by `n` classes, the less urgent goes first once the other came `n` times
#: this much later. Background work does not age: it takes what is left.
AGEING_S = 300.0
#: While calls with a deadline take every place, those of a model without one get the next place after so long.
PASSED_OVER_S = 30.0
#: What programs without a deadline are taken to be given from their arrival on, for each step of class.
PATIENCE_S = 600.0


def latest_start_s(asking: Asking, _seat: Seat | None = None) -> float:
    """When the call's program had to start to be done in time along its longest path, as an instant; later by
    `AGEING_S` for each step that its class is below the most urgent.

    The path is the whole, not what is left of it: else beginnings pass ends, and in a burst of programs alike all are
    late for that (mean latency 29 % longer and its P95 5 %, `benchmarks.scheduling`).
    """
    deadline_s = asking.deadline_s if asking.deadline_s is not None else asking.arrived_s + PATIENCE_S
    return aged_s(deadline_s - asking.path_s, asking.slo)


def due_inside_s(slo: SloClass, latest_start_s: float, sent_s: float) -> float:
    """The order of calls inside an engine, as an instant: by class, and within a class half by when they were sent and
    half by when their programs had to start, as far as that is no more than `PATIENCE_S` away.

    A call waits inside behind none that is sent later by more than `AGEING_S` for its own class and for each that is
    more urgent.
    """
    slack_s = min(max(latest_start_s - sent_s, 0.0), PATIENCE_S)
    return aged_s(sent_s + slack_s * AGEING_S / PATIENCE_S, slo)


def priority_of(due_s: float) -> int:
    """As engines are told it: in milliseconds. They know whole numbers only."""
    return round(1000 * due_s)


def aged_s(since_s: float, slo: SloClass) -> float:
    """The order of what began or must begin at instants, over classes: the least goes first."""
    return since_s + slo.rank * AGEING_S
