"""How far each engine is below its planned share of one stage's calls."""

from collections.abc import Mapping

from planner.ir.ids import EngineId

#: By how many calls an engine may be above its share while another, below its own, has room.
SLACK_CALLS = 4.0


class StageShares:
    """`shares` are above 0 and sum to 1 over engines; those without one were planned to take none of the stage."""

    def __init__(self, shares: Mapping[EngineId, float]) -> None:
        assert abs(sum(shares.values()) - 1) < 1e-6, f"shares of a stage sum to {sum(shares.values())}"
        self._shares = shares
        self._sent = dict.fromkeys(shares, 0)
        self._total = 0

    @property
    def engines(self) -> frozenset[EngineId]:
        """Those the plan counts on."""
        return frozenset(self._shares)

    def below(self, engine: EngineId) -> float:
        """By how many calls the engine falls short of its share if it is not sent the next one; negative above it."""
        return self._shares.get(engine, 0.0) * (self._total + 1) - self._sent.get(engine, 0)

    def wants(self, engine: EngineId) -> bool:
        """Whether a call there keeps to the plan."""
        return engine in self._shares and self.below(engine) > -SLACK_CALLS

    def send(self, engine: EngineId) -> None:
        self._total += 1
        self._sent[engine] = self._sent.get(engine, 0) + 1
