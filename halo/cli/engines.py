"""`halo engines`: what engines there are, how they do, and one of our own for machines without a GPU."""

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from halo.cli.console import print_json, print_table, say, warn
from halo.cli.options import AsJson, EngineUrls, Fleet, Models
from halo.cli.profile import profile
from planner.ir.values import Json

if TYPE_CHECKING:
    from executor.engines.port import EngineHealth, EngineSpec

_EXAMPLES = """Examples:

  halo engines probe --engine http://localhost:8000

  halo engines list --fleet fleet.toml --json

  halo engines start --cpu --port 8100

  halo engines profile --engine http://localhost:8100 --out cpu.toml

  halo engines drain a100-0 --server http://localhost:8080
"""
PROBE_S = 10.0


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="List, probe, measure, start and drain engines.", epilog=_EXAMPLES)
    group.command("list", epilog=_example("list --fleet fleet.toml --json"))(list_engines)
    group.command("probe", epilog=_example("probe --engine http://localhost:8000"))(probe)
    group.command("start", epilog=_example("start --cpu --port 8100"))(start)
    group.command("profile", epilog=_example("profile --engine http://localhost:8100 --out cpu.toml"))(profile)
    group.command("drain", epilog=_example("drain a100-0 --server http://localhost:8080"))(drain)
    group.command("resume", epilog=_example("resume a100-0 --server http://localhost:8080"))(resume)
    app.add_typer(group, name="engines")


def _example(command: str) -> str:
    return f"Example:\n\n  halo engines {command}"


def list_engines(engine: EngineUrls = None, model: Models = None, fleet: Fleet = None, as_json: AsJson = False) -> None:
    """Show the engines that are named, as they are named; nothing is asked of them."""
    from halo.batch.engines import named_engines

    specs = named_engines(engine or (), model or (), fleet, os.environ)
    if as_json:
        print_json([_described(spec) for spec in specs])
        return
    columns = ("engine", "kind", "url", "models", "gpu", "calls at once", "context", "price/h")
    print_table(columns, map(_cells, specs))


def probe(engine: EngineUrls = None, model: Models = None, fleet: Fleet = None, as_json: AsJson = False) -> None:
    """Ask each engine how it is and what it serves. The exit code is 1 when one is not ready."""
    from halo.batch.engines import named_engines
    from halo.event_loop import run_async

    probed = run_async(probe_all(named_engines(engine or (), model or (), fleet, os.environ)))
    if as_json:
        print_json([found.as_json() for found in probed])
    else:
        columns = ("engine", "ready", "answered in", "serves", "context", "version", "KV retention", "detail")
        print_table(columns, (found.cells() for found in probed))
    raise typer.Exit(0 if all(found.health.ready for found in probed) else 1)


def start(
    cpu: Annotated[bool, typer.Option("--cpu", help="Run the CPU vLLM that `make engine` has built.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where it listens; 0 takes any free port.")] = 0,
    root: Annotated[Path, typer.Option(help="The folder in which `make engine` was run.")] = Path(),
) -> None:
    """Run an engine on this machine until Ctrl-C; when it dies, it is started again."""
    from executor.engines.local_recipe import recipe_in
    from executor.engines.local_vllm import serve_cpu_engine

    if not cpu:
        what = "only a CPU engine is started from here: add --cpu; for a GPU run `vllm serve` and name it with --engine"
        raise typer.BadParameter(what)
    serve_cpu_engine(recipe_in(root.resolve(), port=port))


_EngineName = Annotated[
    str, typer.Argument(metavar="ENGINE", help="Its id; GET /v1/engines lists them.", show_default=False)
]
_Server = Annotated[
    str | None, typer.Option(metavar="URL", help="The service to tell. Without it HALO_URL.", show_default=False)
]


def drain(engine: _EngineName, server: _Server = None, as_json: AsJson = False) -> None:
    """Have a running service send nothing more to an engine; what the engine has ends there.

    Programs whose KV it keeps go on elsewhere. Once it has no calls it may be stopped: GET /v1/engines counts those of
    the replica that answers. All replicas of the service follow within seconds, until the engine is resumed.
    """
    _drain(engine, server, as_json, resume=False)


def resume(engine: _EngineName, server: _Server = None, as_json: AsJson = False) -> None:
    """Have a running service send calls to an engine again."""
    _drain(engine, server, as_json, resume=True)


def _drain(engine: str, server: str | None, as_json: bool, *, resume: bool) -> None:
    from halo.sdk.client import drain_engine, server_url
    from halo.service.schemas.engines import EngineDrained

    answer = drain_engine(engine, server_url(server), resume=resume)
    if as_json:
        print_json(answer)
        return
    told = EngineDrained.model_validate(answer)
    say(f"{told.id} {'drains' if told.draining else 'takes calls'}; it has {told.calls:,} calls")
    if told.draining and told.unserved:
        warn(f"no other engine serves {', '.join(told.unserved)}: calls to it wait, and fail after a while")


@dataclass(frozen=True, slots=True)
class Probed:
    """An engine and how it answered, after `seconds`."""

    spec: "EngineSpec"
    health: "EngineHealth"
    seconds: float

    def as_json(self) -> Json:
        return {
            "id": self.spec.id,
            "url": self.spec.url,
            "ready": self.health.ready,
            "models": list(self.health.models),
            "context_tokens": self.health.context_tokens,
            "version": self.health.version,
            "retention": self.health.rung,
            "detail": self.health.detail,
            "seconds": round(self.seconds, 3),
        }

    def cells(self) -> Sequence[str]:
        health = self.health
        context = f"{health.context_tokens:,}" if health.context_tokens else ""
        ready, took = "yes" if health.ready else "no", f"{1000 * self.seconds:,.0f} ms"
        kept = health.rung if health.ready else ""
        return (self.spec.id, ready, took, ", ".join(health.models), context, health.version, kept, health.detail)


async def probe_all(specs: "Sequence[EngineSpec]") -> list[Probed]:
    """All at once; the order is kept. Raises `FleetInvalid`."""
    return list(await asyncio.gather(*map(_probe, specs)))


async def _probe(spec: "EngineSpec") -> Probed:
    from executor.engines.open import open_engine
    from executor.engines.port import EngineHealth

    engine, began = open_engine(spec), time.monotonic()
    try:
        health = await asyncio.wait_for(engine.probe(), PROBE_S)
    except TimeoutError:
        health = EngineHealth(False, detail=f"no answer within {PROBE_S:g} s")
    finally:
        await engine.close()
    return Probed(spec, health, time.monotonic() - began)


def _described(spec: "EngineSpec") -> Json:
    return {
        "id": spec.id,
        "kind": spec.kind,
        "url": spec.url,
        "models": list(spec.models),
        "gpu": spec.gpu,
        "max_running": spec.max_running,
        "context_tokens": spec.context_tokens,
        "price_per_hour": spec.price_per_hour,
    }


def _cells(spec: "EngineSpec") -> Sequence[str]:
    models = ", ".join(spec.models) or "(asked)"
    price = f"{spec.price_per_hour:g}" if spec.price_per_hour else ""
    return (
        spec.id, spec.kind, spec.url, models, spec.gpu, str(spec.max_running), f"{spec.context_tokens:,}", price
    )  # fmt: skip
