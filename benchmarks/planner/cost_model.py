"""How far off the cost model is on a model it was not fitted on, against measured operator times.

    python -m benchmarks.planner.cost_model [--data FOLDER] [--out FILE.json]

For each GPU kind and each model: the coefficients are fitted on all other models, and the time of a layer is predicted
for every measured number of tokens and tensor-parallel degree. A layer's time is the sum of the medians of its
token-level operators; attention kernels and all-reduces are not in these tables. Told is the mean absolute relative
error over all points of the model held out. The last lines are fitted on all models: the profiles Halo ships.

The tables are those of Vidur (github.com/microsoft/vidur, data/profiling; MLSys 2024), as `<gpu>/<model>.mlp.csv`.
Without them there is nothing to do.
"""

import argparse
import csv
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean

from planner.cost.calibrate import Fit, LayerSample, calibrate, mean_error
from planner.cost.gpus import Gpu, gpu_named
from planner.cost.model import Replica, all_reduce_seconds
from planner.cost.shapes import LLAMA_2_7B, LLAMA_2_70B, LLAMA_3_8B, ModelShape

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "vidur_profiles"
TARGETS = {"A100-80": 0.05, "A40": 0.06, "H100": 0.08}
FOLDERS = {"A100-80": "a100", "A40": "a40", "H100": "h100"}
SHAPES = {"Llama-2-7b-hf": LLAMA_2_7B, "Llama-2-70b-hf": LLAMA_2_70B, "Meta-Llama-3-8B": LLAMA_3_8B}
ALL_REDUCES = Path("h100", "h100_dgx.all_reduce.csv")
OPERATORS = (
    "input_layernorm",
    "attn_pre_proj",
    "attn_rope",
    "attn_post_proj",
    "post_attention_layernorm",
    "mlp_up_proj",
    "mlp_act",
    "mlp_down_proj",
    "add",
)

Table = Sequence[LayerSample]


@dataclass(frozen=True)
class HeldOut:
    """Errors are mean absolute relative ones. `error_large` is that of 1,024 tokens and more."""

    gpu: str
    fitted_on: tuple[str, ...]
    held_out: str
    points: int
    error_fitted: float
    error_held_out: float
    worst_degree: int
    error_worst_degree: float
    error_large: float
    target: float

    @property
    def met(self) -> bool:
        return self.error_held_out <= self.target


def main() -> int:
    arguments = _arguments()
    if not arguments.data.is_dir():
        print(f"no operator tables at {arguments.data}: nothing to compare with (name their folder with --data)")
        return 0
    found = [line for gpu in TARGETS for line in held_out_errors(gpu, read_tables(arguments.data / FOLDERS[gpu]))]
    fits = [fit_all(gpu, read_tables(arguments.data / FOLDERS[gpu])) for gpu in TARGETS]
    print("\n".join([*_table(found), "", *_profiles(fits)]))
    all_reduces = all_reduce_error(arguments.data / ALL_REDUCES)
    print(f"H100     all-reduces, fitted on themselves: {all_reduces:.1%}")
    if arguments.out:
        arguments.out.write_text(json.dumps(_as_json(found, fits, all_reduces), indent=2) + "\n")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="the folder with a100/, a40/ and h100/")
    parser.add_argument("--out", type=Path, help="where to write the figures as JSON")
    return parser.parse_args()


def read_tables(folder: Path) -> dict[str, Table]:
    return {
        name: read_table(folder / f"{name}.mlp.csv", shape) for name, shape in SHAPES.items() if _there(folder, name)
    }


def read_table(file: Path, shape: ModelShape) -> Table:
    with file.open(newline="") as lines:
        return [_sample(row, shape) for row in csv.DictReader(lines)]


def held_out_errors(gpu: str, tables: dict[str, Table]) -> list[HeldOut]:
    return [_held_out(gpu, tables, name) for name in tables]


def fit_all(gpu: str, tables: dict[str, Table]) -> Fit:
    return calibrate(start_of(gpu), _all(tables.values()))


def all_reduce_error(file: Path) -> float:
    """Of the model's all-reduce against the table its two constants are from: nothing is held out."""
    with file.open(newline="") as lines:
        return fmean(_all_reduce_error(row) for row in csv.DictReader(lines))


def _all_reduce_error(row: dict[str, str]) -> float:
    h100 = gpu_named("H100")
    assert h100
    predicted: float = all_reduce_seconds(Replica(h100, LLAMA_3_8B, int(row["num_workers"])), float(row["size"]))
    return abs(predicted / (float(row["time_stats.all_reduce.median"]) / 1000) - 1)


def start_of(gpu: str) -> Gpu:
    """The data sheet with assumed coefficients: no fit may begin at what an earlier one found."""
    sheet, assumed = gpu_named(gpu), gpu_named("L40S")
    assert sheet
    assert assumed
    return replace(sheet, efficiency=assumed.efficiency, calibrated=False)


def _held_out(gpu: str, tables: dict[str, Table], name: str) -> HeldOut:
    others = {other: table for other, table in tables.items() if other != name}
    fit = calibrate(start_of(gpu), _all(others.values()), tables[name])
    by_degree = {degree: mean_error(fit.gpu, _of_degree(tables[name], degree)) for degree in (1, 2, 4, 8)}
    worst = max(by_degree, key=lambda degree: by_degree[degree])
    large = [sample for sample in tables[name] if sample.tokens >= 1024]
    assert fit.held_out_error is not None
    return HeldOut(
        gpu=gpu,
        fitted_on=tuple(others),
        held_out=name,
        points=len(tables[name]),
        error_fitted=fit.error,
        error_held_out=fit.held_out_error,
        worst_degree=worst,
        error_worst_degree=by_degree[worst],
        error_large=mean_error(fit.gpu, large),
        target=TARGETS[gpu],
    )


def _of_degree(table: Table, degree: int) -> Table:
    return [sample for sample in table if sample.degree == degree]


def _all(tables: Iterable[Table]) -> Table:
    return [sample for table in tables for sample in table]


def _there(folder: Path, name: str) -> bool:
    return (folder / f"{name}.mlp.csv").is_file()


def _sample(row: dict[str, str], shape: ModelShape) -> LayerSample:
    """Tables are in milliseconds, and say their own shape; ours must be the same."""
    assert (int(row["n_head"]), int(row["n_kv_head"])) == (shape.heads, shape.kv_heads)
    assert (int(row["n_embd"]), int(row["n_expanded_embd"])) == (shape.hidden, shape.intermediate)
    seconds = sum(float(row[f"time_stats.{operator}.median"]) for operator in OPERATORS) / 1000
    return LayerSample(shape, int(row["num_tensor_parallel_workers"]), int(row["num_tokens"]), seconds)


def _table(found: Sequence[HeldOut]) -> list[str]:
    heading = f"{'GPU':8} {'held out':16} {'points':>6} {'fitted':>7} {'held out':>8} {'target':>7}        "
    return [heading + "worst degree   1,024 tokens and more", *(_line(one) for one in found)]


def _line(one: HeldOut) -> str:
    met = "met" if one.met else "MISSED"
    figures = f"{one.points:6,} {one.error_fitted:7.1%} {one.error_held_out:8.1%} {one.target:7.0%} {met:6}"
    worst = f"{one.worst_degree:2} at {one.error_worst_degree:5.1%}"
    return f"{one.gpu:8} {one.held_out:16} {figures} {worst}  {one.error_large:6.1%}"


def _profiles(fits: Sequence[Fit]) -> list[str]:
    return [
        f"{fit.gpu.name:8} fitted on all: {fit.error:.1%} over {fit.samples:,}; {fit.gpu.efficiency}" for fit in fits
    ]


def _as_json(found: Sequence[HeldOut], fits: Sequence[Fit], all_reduces: float) -> object:
    return {
        "metric": "mean absolute relative error of a layer's token-level operators",
        "held_out": [{**asdict(one), "met": one.met} for one in found],
        "fitted_on_all": [{"gpu": f.gpu.name, "error": f.error, **asdict(f.gpu.efficiency)} for f in fits],
        "all_reduces_h100": all_reduces,
    }


if __name__ == "__main__":
    sys.exit(main())
