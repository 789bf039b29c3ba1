"""Answers to fleet questions, for programs and for people."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from planner.fleet.energy import ASSUMPTION, unknown_boards
from planner.fleet.kinds import EngineKind
from planner.fleet.knee import ClassLatency, Knee, OneMore, Point
from planner.fleet.mix_values import Mix, Rates
from planner.fleet.signals import Signal
from planner.fleet.workload import Slo, Workload
from planner.ir.values import Json
from planner.text_tables import three_digits

QUEUE = (
    "each engine is a queue that calls reach at random; its calls share it, and a prompt is read by the engine alone;"
    " engines of a kind get equal parts"
)
ADAPTERS = "calls to a LoRA adapter take what calls to its model do, and every engine with the model has it loaded"
Rows = Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class PlanTold:
    """The cheapest mix for a workload, what it does, and what one more engine would bring."""

    workload: Workload
    slo: Slo
    mix: Mix
    point: Point
    knee: Knee
    more: Sequence[OneMore]
    notes: Sequence[str]

    @property
    def usd_per_million(self) -> float:
        return self.mix.usd_per_hour / 3600 / self.workload.programs_per_s * 1e6

    def as_json(self) -> Json:
        return {
            **_asked(self.workload, self.slo),
            "engines": [_engine(kind, count, self.mix.rates) for kind, count in self.mix.engines.items()],
            "usd_per_hour": self.mix.usd_per_hour,
            "usd_per_million_programs": self.usd_per_million,
            "at_load": _point(self.point),
            "knee_programs_per_s": self.knee.programs_per_s,
            "one_more": [_more(one) for one in self.more],
            "notes": list(self.notes),
        }

    def lines(self) -> Iterator[str]:
        yield (
            f"{three_digits(self.mix.usd_per_hour)} USD an hour for {_rate(self.workload.programs_per_s)}, "
            f"{three_digits(self.usd_per_million)} USD for a million; calls leave their bounds above "
            f"{_rate(self.knee.programs_per_s)}"
        )
        yield _of_point(self.point)

    def engine_rows(self) -> Rows:
        engines = self.mix.engines.items()
        return [
            (str(count), _told(kind), kind.model, three_digits(count * kind.usd_per_hour), _calls(kind, self.mix.rates))
            for kind, count in engines
        ]


@dataclass(frozen=True, slots=True)
class KneeTold:
    """How much the engines there are can do, and what one more would bring."""

    workload: Workload
    slo: Slo
    engines: Mapping[EngineKind, int]
    knee: Knee
    more: Sequence[OneMore]
    notes: Sequence[str]

    def as_json(self) -> Json:
        return {
            **_asked(self.workload, self.slo),
            "engines": [_engine(kind, count, self.knee.rates) for kind, count in self.engines.items()],
            "knee_programs_per_s": self.knee.programs_per_s,
            "load": self.workload.programs_per_s / self.knee.programs_per_s if self.knee.programs_per_s else None,
            "curve": [_point(point) for point in self.knee.curve],
            "one_more": [_more(one) for one in self.more],
            "notes": list(self.notes),
        }

    def lines(self) -> Iterator[str]:
        knee = self.knee.programs_per_s
        load = f"; {_rate(self.workload.programs_per_s)} are {self.workload.programs_per_s / knee:.0%} of that"
        yield f"calls leave their bounds above {_rate(knee)}{load if knee else ''}"


LATENCY_COLUMNS = ("calls", "to first token, s", "a token, ms", "a call, s", "a call on average, s")
CURVE_COLUMNS = (
    "programs/s",
    "within bounds",
    "to first token, s",
    "a token, ms",
    "a call, s",
    "a program, s",
    "J each",
)
ENGINE_COLUMNS = ("engines", "kind", "model", "USD/h", "calls/s")
MORE_COLUMNS = ("one more", "programs/s", "gained", "USD/h", "USD for a million more")


def latency_rows(point: Point) -> Rows:
    return [
        (
            one.call.name,
            three_digits(one.high.first_token_s),
            three_digits(1000 * one.high.token_s),
            three_digits(one.high.call_s),
            three_digits(one.mean.call_s),
        )
        for one in point.latencies
    ]


def curve_rows(knee: Knee) -> Rows:
    return [_curve_row(point) for point in knee.curve]


def more_rows(more: Sequence[OneMore], shown: int = 6) -> Rows:
    return [
        (
            _told(one.kind),
            three_digits(one.programs_per_s),
            f"+{three_digits(one.gained_per_s)}",
            three_digits(one.kind.usd_per_hour),
            three_digits(one.usd_per_million) if one.gained_per_s else "",
        )
        for one in more[:shown]
    ]


SIGNAL_COLUMNS = ("model", "engines", "prefill asked", "possible", "decode asked", "possible", "load", "engines wanted")


def signal_rows(found: Sequence[Signal]) -> Rows:
    return [
        (
            one.model + _kept(one.tenants),
            str(one.engines),
            three_digits(one.prefill_demanded),
            three_digits(one.prefill_possible),
            three_digits(one.decode_demanded),
            three_digits(one.decode_possible),
            f"{one.load:.0%}",
            str(one.engines_wanted),
        )
        for one in found
    ]


def signal_json(one: Signal) -> Json:
    return asdict(one) | {"load": one.load}


def notes(workload: Workload, slo: Slo, kinds: Sequence[EngineKind]) -> list[str]:
    """What the answers assume."""
    told = [f"calls are {workload.origin}"] if workload.origin else []
    told += [_apart(tenant) for tenant in workload.tenants_apart]
    told += [ADAPTERS] if any(call.model != call.weights for call in workload.calls) else []
    gpus = dict.fromkeys(kind.gpu for kind in kinds if kind.profile is None)
    rough = [gpu.name for gpu in gpus if not gpu.calibrated]
    told += [f"speeds are not calibrated for {', '.join(rough)}"] if rough else []
    told += [QUEUE, ASSUMPTION]
    told += [f"what {', '.join(dark)} draws is not known"] if (dark := unknown_boards(kinds)) else []
    return told + ([] if slo.bounded else ["nothing bounds what calls take: engines are filled until calls would wait"])


def _told(kind: EngineKind) -> str:
    return kind.name + _kept(kind.tenants)


def _kept(tenants: Sequence[str]) -> str:
    return f", kept for {', '.join(tenants)}" if tenants else ""


def _apart(tenant: str) -> str:
    return f"{tenant} has engines of its own: its calls go nowhere else, and nobody else's go there"


def _asked(workload: Workload, slo: Slo) -> dict[str, Json]:
    return {
        "programs_per_s": workload.programs_per_s,
        "origin": workload.origin,
        "calls": [asdict(call) for call in workload.calls],
        "slo": asdict(slo),
    }


def _engine(kind: EngineKind, count: int, rates: Rates) -> Json:
    return {
        "kind": kind.name,
        "model": kind.model,
        "tenants": list(kind.tenants),
        "adapters": list(kind.adapters),
        "count": count,
        "gpu": kind.gpu.name,
        "gpus": kind.gpus,
        "usd_per_hour": kind.usd_per_hour,
        "calls_per_s": {call.name: rate for call, rate in rates.get(kind, {}).items()},
    }


def _point(point: Point) -> Json:
    return {
        "programs_per_s": point.programs_per_s,
        "within_bounds": point.kept,
        "program_s": _finite(point.program_s),
        "watts": point.watts,
        "joules_per_program": _finite(point.joules_per_program),
        "latencies": {one.call.name: _latency(one) for one in point.latencies},
    }


def _latency(one: ClassLatency) -> Json:
    mean = {name: _finite(seconds) for name, seconds in asdict(one.mean).items()}
    high = {name: _finite(seconds) for name, seconds in asdict(one.high).items()}
    return {"mean": mean, "high": high}


def _more(one: OneMore) -> Json:
    return {
        "kind": one.kind.name,
        "model": one.kind.model,
        "tenants": list(one.kind.tenants),
        "programs_per_s": one.programs_per_s,
        "gained_per_s": one.gained_per_s,
        "usd_per_hour": one.kind.usd_per_hour,
        "usd_per_million_programs": _finite(one.usd_per_million),
    }


def _finite(figure: float) -> float | None:
    """JSON has no infinity."""
    return figure if figure < float("inf") else None


def _curve_row(point: Point) -> Sequence[str]:
    """The worst of the classes."""
    high = [one.high for one in point.latencies]
    return (
        three_digits(point.programs_per_s),
        "yes" if point.kept else "no",
        three_digits(max(one.first_token_s for one in high)),
        three_digits(1000 * max(one.token_s for one in high)),
        three_digits(max(one.call_s for one in high)),
        three_digits(point.program_s),
        three_digits(point.joules_per_program),
    )


def _calls(kind: EngineKind, rates: Rates) -> str:
    return ", ".join(f"{three_digits(rate)} {call.name}" for call, rate in rates.get(kind, {}).items())


def _of_point(point: Point) -> str:
    drawn = f", {three_digits(point.watts)} W, {three_digits(point.joules_per_program)} J for a program"
    waits = f"a program waits {three_digits(point.program_s)} s for its calls on average"
    return waits + (drawn if point.watts else "")


def _rate(programs_per_s: float) -> str:
    return f"{three_digits(programs_per_s)} programs a second"
