"""What is believed before a job runs and learnt while it does, as the texts that are kept with it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import TypeAdapter

from planner.cost.correction import Correction
from planner.cost.experience import NO_EXPERIENCE, Experience
from planner.ir.ids import EngineId


@dataclass(frozen=True, slots=True)
class Beliefs:
    """Before a job ran: what its stages were expected to take, and how far engines were known to be off."""

    experience: Experience = NO_EXPERIENCE
    corrections: Mapping[EngineId, Correction] = field(default_factory=dict)


_BELIEFS = TypeAdapter(Beliefs)
_CORRECTIONS = TypeAdapter(dict[EngineId, Correction])


def encode_beliefs(beliefs: Beliefs) -> str:
    return _BELIEFS.dump_json(beliefs).decode()


def decode_beliefs(text: str | None) -> Beliefs:
    """Of a job of which nothing was written: nothing was believed."""
    return Beliefs() if text is None else _BELIEFS.validate_json(text)


def encode_corrections(corrections: Mapping[EngineId, Correction]) -> str:
    """Those of engines that have answered."""
    return _CORRECTIONS.dump_json(answered(corrections)).decode()


def decode_corrections(text: str | None) -> Mapping[EngineId, Correction]:
    return {} if text is None else _CORRECTIONS.validate_json(text)


def answered(corrections: Mapping[EngineId, Correction]) -> dict[EngineId, Correction]:
    return {engine: found for engine, found in corrections.items() if found.calls}
