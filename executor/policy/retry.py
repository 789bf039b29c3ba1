"""Again, elsewhere, or give up: the one table of retry classes."""

from dataclasses import dataclass
from hashlib import blake2b

from executor.engines.port import Failure, FailureClass
from planner.ir.ids import NodeRef

ENGINE_TRIES = 6
RATE_TRIES = 20
DEATHS = 3
FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 30.0

#: Failures of engines that no call brings about, whatever is in it.
_ENGINES_OWN = frozenset(
    {"refused", "unreachable", "unavailable", "unauthorized", "wrong_model", "no_such_path", "closed"}
)


@dataclass(frozen=True, slots=True)
class Tries:
    """How often a node failed so far, by what was at fault."""

    row: int = 0
    engine: int = 0
    rate: int = 0
    deaths: int = 0


@dataclass(frozen=True, slots=True)
class Again:
    """Try again after `after_s` seconds; `elsewhere` asks for another engine if there is one."""

    tries: Tries
    after_s: float
    elsewhere: bool = False


@dataclass(frozen=True, slots=True)
class GiveUp:
    failure: Failure


def decide_retry(node: NodeRef, failure: Failure, tries: Tries, retries: int) -> Again | GiveUp:
    """What to do about a failed node that may fail `retries` times through its own fault.

    Failures of engines do not count against the row, except that a row in flight on engines that died three times is
    taken for the cause.
    """
    match failure.failure_class:
        case FailureClass.ROW:
            return GiveUp(failure)
        case FailureClass.ANSWER | FailureClass.TOOL:
            return _own_fault(node, failure, tries, retries)
        case FailureClass.ENGINE:
            return _engine_fault(node, failure, tries)
        case FailureClass.ENGINE_DIED:
            return _suspicion(failure, tries)
        case FailureClass.RATE:
            return _rate(node, failure, tries)


def may_be_the_calls(failure: Failure) -> bool:
    """Whether the call itself may be why the engine failed: then it fails wherever it goes, and others do not."""
    return failure.failure_class is FailureClass.ENGINE and failure.code not in _ENGINES_OWN


def _own_fault(node: NodeRef, failure: Failure, tries: Tries, retries: int) -> Again | GiveUp:
    if tries.row >= retries:
        return GiveUp(failure)
    again = Tries(tries.row + 1, tries.engine, tries.rate, tries.deaths)
    return Again(again, _backoff(node, tries.row))


def _engine_fault(node: NodeRef, failure: Failure, tries: Tries) -> Again | GiveUp:
    if tries.engine + 1 >= ENGINE_TRIES:
        return GiveUp(failure)
    again = Tries(tries.row, tries.engine + 1, tries.rate, tries.deaths)
    return Again(again, _backoff(node, tries.engine), elsewhere=True)


def _suspicion(failure: Failure, tries: Tries) -> Again | GiveUp:
    again = Tries(tries.row, tries.engine, tries.rate, tries.deaths + 1)
    if again.deaths < DEATHS:
        return Again(again, 0.0, elsewhere=True)
    message = f"the engine died {DEATHS} times while this call ran in it; last: {failure.message}"
    return GiveUp(Failure(FailureClass.ROW, "engine_killer", message))


def _rate(node: NodeRef, failure: Failure, tries: Tries) -> Again | GiveUp:
    if tries.rate + 1 >= RATE_TRIES:
        return GiveUp(failure)
    again = Tries(tries.row, tries.engine, tries.rate + 1, tries.deaths)
    asked = failure.retry_after_s
    return Again(again, _backoff(node, tries.rate) if asked is None else min(asked, LONGEST_DELAY_S))


def _backoff(node: NodeRef, tries: int) -> float:
    """Full jitter, drawn from the node's name so that the same run waits the same times."""
    digest = blake2b(f"{node}#{tries}".encode(), digest_size=4).digest()
    longest = min(LONGEST_DELAY_S, FIRST_DELAY_S * float(2**tries))
    return longest * int.from_bytes(digest, "big") / 2**32
