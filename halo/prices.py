"""What GPUs cost: the file that comes with Halo, and one of the user's own on top of it."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from executor.engines.port import EngineSpec
from halo.sdk.errors import HaloError
from planner.cost.gpus import GPUS, REFERENCE, gpu_named
from planner.errors import Problem, problem_lines
from planner.timing import PricedEngine

#: The variable that names a file of the user's own.
PRICES = "HALO_PRICES"
_TABLE = "usd_per_gpu_hour"


class PricesInvalid(HaloError):
    """Everything wrong with a price file at once."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(["these prices cannot be used:", *problem_lines(problems)]))
        self.problems = problems


def read_prices(environment: Mapping[str, str]) -> dict[str, float]:
    """US dollars for an hour of one GPU, by the name of its profile.

    The file that `HALO_PRICES` names comes before the prices shipped. Raises `PricesInvalid`.
    """
    shipped = _prices("halo/prices.toml", files("halo").joinpath("prices.toml").read_text(encoding="utf-8"))
    own = environment.get(PRICES)
    return shipped | _own_prices(Path(own)) if own else shipped


def priced(specs: Sequence[EngineSpec], prices: Mapping[str, float]) -> tuple[PricedEngine, ...]:
    """Each engine with its own price where the fleet file has one, else with that of its GPU kind."""
    return tuple(
        PricedEngine(
            gpu=spec.gpu,
            models=spec.weights_of,
            usd_per_gpu_hour=prices[(gpu_named(spec.gpu) or REFERENCE).name],
            usd_per_hour=spec.price_per_hour,
            tensor_parallel=spec.tensor_parallel,
            profile=spec.profile,
            name=spec.id,
            kv_room_tokens=spec.kv_tokens,
            adapters=spec.adapters,
        )
        for spec in specs
    )


def reference_engine(prices: Mapping[str, float]) -> PricedEngine:
    """What stands in where no engine is named."""
    return PricedEngine(REFERENCE.name, {}, prices[REFERENCE.name])


def _own_prices(path: Path) -> dict[str, float]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        fix = f"name a readable file in {PRICES}, or unset it"
        raise PricesInvalid((Problem(str(path), f"cannot be read ({problem})", fix),)) from None
    return _prices(str(path), text)


def _prices(where: str, text: str) -> dict[str, float]:
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        raise PricesInvalid((Problem(where, f"is not TOML: {problem}", "see the TOML documentation"),)) from None
    problems = tuple(_problems(where, content))
    if problems:
        raise PricesInvalid(problems)
    return {_profile(name): float(price) for name, price in content[_TABLE].items()}


def _problems(where: str, content: Mapping[str, object]) -> Iterator[Problem]:
    table = content.get(_TABLE)
    if set(content) != {_TABLE} or not isinstance(table, dict):
        yield Problem(where, f"is not one table [{_TABLE}]", f'write [{_TABLE}] and lines such as "H100" = 3.00')
        return
    for name, price in table.items():
        if gpu_named(name) is None:
            yield Problem(where, f"no GPU kind is called {name!r}", f"write one of {', '.join(g.name for g in GPUS)}")
        if isinstance(price, bool) or not isinstance(price, int | float) or not 0 <= price < float("inf"):
            yield Problem(where, f"the price of {name} is {price!r}", "write dollars for an hour, 0 or more")


def _profile(name: str) -> str:
    gpu = gpu_named(name)
    assert gpu
    return gpu.name
