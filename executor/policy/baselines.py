"""Rules of others, as functions of the same snapshot as Halo's: a ready call's engine, and its order there."""

from collections.abc import Callable
from math import inf

from executor.policy.asking import Asking, Seat, Seats
from planner.ir.ids import EngineId

#: GPU kinds that HexGen's published simulator weighs as slow.
HEXGEN_SLOW = ("A6000", "L40S")


def round_robin(_asking: Asking, seats: Seats) -> EngineId:
    """Each in its turn: whoever was given the fewest."""
    return min(seats, key=lambda seat: (seat.given, seat.engine)).engine


def least_calls(_asking: Asking, seats: Seats) -> EngineId:
    """The fewest calls in the engine and waiting for it, whatever they take."""
    return min(seats, key=lambda seat: (seat.calls, seat.given, seat.engine)).engine


def stay_at_home(asking: Asking, seats: Seats) -> EngineId:
    """Where the program's last call ran; the first goes where the fewest calls are."""
    home = next((seat.engine for seat in seats if seat.engine == asking.home), None)
    return home or least_calls(asking, seats)


def least_work(_asking: Asking, seats: Seats) -> EngineId:
    """Done first by all that is there before it, less what is warm: an engine's true queue in seconds."""
    return min(seats, key=lambda seat: (seat.done_s, seat.engine)).engine


def balance_cumulative_work(alpha: float, slow: tuple[str, ...], half: float) -> Callable[[Asking, Seats], EngineId]:
    """Of speed for the stage, relative to the first engine, and all work ever given, relative to the first engine's
    (HexGen-Text2SQL's published simulator): the most of `alpha` times the one less `1 - alpha` times the other."""

    def bind(_asking: Asking, seats: Seats) -> EngineId:
        first = seats[0]
        if not first.given_s:
            return first.engine

        def score(seat: Seat) -> float:
            weight = half if seat.offer.view.spec.gpu in slow else 1.0
            return alpha * first.stage_s / seat.stage_s - (1 - alpha) * weight * seat.given_s / first.given_s

        return max(seats, key=score).engine

    return bind


def balance_queues(alpha: float) -> Callable[[Asking, Seats], EngineId]:
    """The same of what waits or runs now, as the paper has it: the least of `alpha` times what the call takes there and
    `1 - alpha` times what is before it, both relative to the greatest of all engines."""

    def bind(_asking: Asking, seats: Seats) -> EngineId:
        most_own_s = max(seat.stage_s for seat in seats)
        most_before_s = max(_before_s(seat) for seat in seats) or inf

        def score(seat: Seat) -> tuple[float, EngineId]:
            return alpha * seat.stage_s / most_own_s + (1 - alpha) * _before_s(seat) / most_before_s, seat.engine

        return min(seats, key=score).engine

    return bind


def first_come(asking: Asking, _seat: Seat | None) -> float:
    return asking.ready_s


def by_remaining_slack(asking: Asking, seat: Seat | None) -> float:
    """HexGen's urgency where a stage's budget is all that its program has left, as an instant: now is common to all."""
    deadline_s = asking.arrived_s if asking.deadline_s is None else asking.deadline_s
    return deadline_s - (seat.stage_s if seat else 0.0)


def by_stage_budget(asking: Asking, seat: Seat | None) -> float:
    """HexGen's urgency: the slack that is left when a call becomes ready is split over the stages still to come by what
    they take (arXiv 2505.05286, section 4)."""
    deadline_s = asking.arrived_s if asking.deadline_s is None else asking.deadline_s
    share = asking.own_s / asking.left_s if asking.left_s else 1.0
    budget_s = (deadline_s - asking.ready_s) * share
    return asking.ready_s + budget_s - (seat.stage_s if seat else 0.0)


def _before_s(seat: Seat) -> float:
    return seat.offer.view.load_s + seat.waiting_s
