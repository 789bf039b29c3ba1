"""The GPU kit without a GPU: what it carries and how, the model it makes up, the commands it runs, its ladder."""

import json
import os
import subprocess
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement

from benchmarks.gpu.card import Card
from benchmarks.gpu.ladder import Kit, described, rehearse, small_plan
from benchmarks.gpu.needs import NotReadable, versions_in
from benchmarks.gpu.pack import KERNELS, WITH_TORCH, Goods, download_arguments
from benchmarks.gpu.parts import MANIFEST, BadParts, cut, join, read_manifest
from benchmarks.gpu.recipe import GIB, GpuEngine, problems, size_of, stock_flags, unable
from benchmarks.gpu.shape import LLAMA_31_8B, config_of, write_model
from benchmarks.gpu.unpack import CannotUnpack, install, make_environment, unmet
from benchmarks.kv.arms import AFTER, ARMS, DOOR, LADDER, OURS, STOCK, Flags, Serving
from benchmarks.kv.climb import Plan
from benchmarks.kv.distributions import own_distributions
from benchmarks.kv.hints import Telling
from benchmarks.kv.lab import CannotRun
from benchmarks.kv.programs import Load
from benchmarks.kv.results import ProgramResult, TurnResult
from benchmarks.kv.traces import TRACES, Scale
from executor.engines.local_recipe import command_of, environment_of

SCALE = Scale(tokens=0.5, engine_prefill_tokens_per_s=20_000, context_tokens=21_000, largest_output_tokens=480)
H100 = Card("0.24.0", "2.11.0", endpoint_plugins=False, device="NVIDIA H100", memory_bytes=80 * GIB)


# --- parts


@given(
    contents=st.lists(st.binary(max_size=300), min_size=1, max_size=5),
    part_bytes=st.integers(min_value=1, max_value=200),
)
@settings(max_examples=40, deadline=None)
def test_files_come_out_of_their_parts_as_they_went_in(
    tmp_path_factory: pytest.TempPathFactory, contents: list[bytes], part_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("parts")
    files = _files(folder, contents)
    manifest = cut(files, folder / "parts", part_bytes, "3.12")
    assert all(part.size_bytes <= part_bytes for part in manifest.parts)
    assert read_manifest(folder / "parts") == manifest
    assert [path.read_bytes() for path in join(folder / "parts", folder / "out")] == contents


def test_all_that_is_wrong_with_parts_is_told_at_once_and_nothing_is_written(tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    cut(_files(tmp_path, [b"a" * 100]), parts, 30, "3.12")
    (parts / "part-001").unlink()
    (parts / "part-003").write_bytes(b"b" * 10)
    with pytest.raises(BadParts) as told:
        join(parts, tmp_path / "out")
    assert told.value.problems == (
        "part-001 is missing (30 bytes)",
        "part-003 is not what was packed: bring it again",
    )
    assert not (tmp_path / "out").exists()


def test_a_second_cut_writes_only_what_changed(tmp_path: Path) -> None:
    parts, files = tmp_path / "parts", _files(tmp_path, [b"a" * 50, b"b" * 50])
    cut(files, parts, 30, "3.12")
    os.utime(parts / "part-000", (1, 1))
    files[1].write_bytes(b"c" * 5)
    cut(files, parts, 30, "3.12")
    assert (parts / "part-000").stat().st_mtime == 1
    assert sorted(path.name for path in parts.iterdir()) == [MANIFEST, "part-000", "part-001"]
    assert [path.read_bytes() for path in join(parts, tmp_path / "out")] == [b"a" * 50, b"c" * 5]


def test_what_was_joined_before_needs_no_parts(tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    cut(_files(tmp_path, [b"a" * 50]), parts, 30, "3.12")
    joined = join(parts, tmp_path / "out")
    (parts / "part-000").unlink()
    assert join(parts, tmp_path / "out") == joined


def test_a_manifest_cannot_write_outside_its_folder(tmp_path: Path) -> None:
    piece = {"name": "../evil", "size_bytes": 0, "sha256": ""}
    (tmp_path / MANIFEST).write_text(json.dumps({"python": "3.12", "files": [piece], "parts": []}))
    with pytest.raises(BadParts, match="outside its folder"):
        join(tmp_path, tmp_path / "out")
    with pytest.raises(BadParts, match="bring it along"):
        join(tmp_path / "nowhere", tmp_path / "out")


def _files(folder: Path, contents: list[bytes]) -> list[Path]:
    paths = [folder / f"file-{number}" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


# --- what is carried


def test_what_is_there_is_not_carried_and_what_it_lacks_is_asked_for(tmp_path: Path) -> None:
    needs = ["torch==2.11.0", "numpy", "lark==1.2.2", 'six; python_version < "3.12"', "flashinfer-python==0.6"]
    vllm = _wheel(tmp_path, "vllm", "0.24.0", needs)
    wheels, missing = _goods(there="numpy==2.5.2\nlark==1.3.0\n").chosen(tmp_path)
    assert wheels == [vllm]
    assert list(map(str, missing)) == ["lark==1.2.2"]


def test_needs_of_needs_are_followed_and_narrowed_together(tmp_path: Path) -> None:
    _wheel(tmp_path, "vllm", "0.24.0", ["fastapi[standard]>=0.133", "starlette>=1"])
    fastapi = _wheel(tmp_path, "fastapi", "0.136.0", ['uvicorn>=0.12; extra == "standard"', "starlette<2"])
    _wheel(tmp_path, "starlette", "2.0.0", [])
    wheels, missing = _goods(there="fastapi==0.136.0").chosen(tmp_path)
    assert fastapi in wheels  # there already, but what its extra needs stands in its wheel alone
    assert sorted(map(str, missing)) == ["starlette<2,>=1", "uvicorn>=0.12"]
    older = _wheel(tmp_path, "starlette", "1.4.0", [])
    assert older in _goods(there="uvicorn==0.40").chosen(tmp_path)[0]


def test_a_wheel_that_is_none_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "vllm-0.24.0-py3-none-any.whl").write_bytes(b"half a download")
    with pytest.raises(NotReadable, match="remove it and run again"):
        _goods().chosen(tmp_path)


def test_pip_is_asked_for_the_other_machines_wheels_and_nothing_beside(tmp_path: Path) -> None:
    words = download_arguments([Requirement("fastapi[standard]<1")], tmp_path, "3.12")
    assert words[-1] == "fastapi<1"
    assert {"--no-deps", ":all:", "3.12", "manylinux_2_28_x86_64", "manylinux1_x86_64"} <= set(words)


def _goods(there: str = "") -> Goods:
    return Goods((Requirement("vllm==0.24.*"),), versions_in(there), WITH_TORCH | KERNELS, "3.12")


def _wheel(folder: Path, name: str, version: str, needs: Sequence[str], code: str = "") -> Path:
    path, info = folder / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {n}" for n in needs)]
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", code)
        wheel.writestr(f"{info}/METADATA", "\n".join(lines) + "\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


# --- installing it


def test_an_unpacked_package_sees_what_is_there_and_says_what_it_misses(tmp_path: Path) -> None:
    carried = _wheel(tmp_path, "halo_carried", "1.0", ["hypothesis", "halo-not-there>=2"], "import hypothesis")
    python = make_environment(tmp_path / "venv")
    install(python, [carried])
    subprocess.run([str(python), "-c", "import halo_carried"], check=True)
    [missing] = unmet(python, [carried])
    assert "halo-not-there" in missing
    with pytest.raises(CannotUnpack, match="no virtual environment"):
        make_environment(tmp_path)


# --- the model


def test_the_model_has_the_published_size_of_llama_31_8b() -> None:
    assert LLAMA_31_8B.parameters == 8_030_261_248
    assert LLAMA_31_8B.kv_bytes_per_token == 131_072


def test_every_token_id_is_a_word(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    small = replace(LLAMA_31_8B, vocabulary=2048)
    tokenizer = tokenizers.Tokenizer.from_file(str(write_model(tmp_path, small) / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == 2048
    assert tokenizer.encode("t5 t2047").ids == [5, 2047]
    assert config_of(small)["eos_token_id"] < 2048


# --- its engines


def test_an_engine_is_told_the_shape_the_kv_and_the_arms_flags_last() -> None:
    engine = _engine()
    recipe = engine.recipe(ARMS[OURS].serving(Flags(max_running=64), stock_flags(H100)), 8000)
    words = command_of(recipe)
    after = words[words.index("--load-format") :]
    assert after[:3] == ["--load-format", "dummy", "--no-enforce-eager"]
    assert {"--enable-chunked-prefill", "--scheduler-cls", "halo_vllm.Scheduler", "--gpu-memory-utilization"} <= set(
        after
    )
    assert words[words.index("--num-gpu-blocks-override") + 1] == "8192"
    assert words[words.index("--max-num-seqs") + 1] == "64"
    assert environment_of(recipe)["VLLM_TARGET_DEVICE"] == "cuda"


def test_what_does_not_fit_is_told_with_its_fix() -> None:
    assert list(problems(_engine(), H100)) == []
    assert list(problems(_engine(), None)) == []
    [small] = problems(_engine(), replace(H100, memory_bytes=24 * GIB))
    assert "lower --kv-gib or --alive" in small
    [tiny] = problems(_engine(kv_gib=1.0), None)
    assert "raise --kv-gib" in tiny
    assert list(problems(_engine(), replace(H100, device="", memory_bytes=0))) == [
        "PyTorch finds no GPU: --dry-run needs none"
    ]


def test_vllm_024_takes_hints_with_calls_and_none_after_them() -> None:
    assert [name for name in ARMS if unable(ARMS[name], H100)] == [DOOR, AFTER]
    assert unable(ARMS[AFTER], replace(H100, vllm="0.32.0", endpoint_plugins=True)) is None


def _engine(kv_gib: float = 16.0) -> GpuEngine:
    return GpuEngine(Path("python"), Path("model"), Path("logs"), size_of(kv_gib, SCALE), 0.46)


# --- the ladder


class EqualLab:
    """Every program takes a second, under any arm but those it cannot run."""

    simulated = True

    def __init__(self, unable: bool = False) -> None:
        self.unable = unable
        self.closed = False
        self.served: list[Serving] = []

    async def run(self, serving: Serving, load: Load, telling: Telling, salt: str) -> list[ProgramResult]:
        if self.unable and serving.plugin is not None:
            raise CannotRun("not here")
        self.served.append(serving)
        return [ProgramResult(program.id, 0.0, 1.0, (TurnResult(0, 0.1, 1, 9, 0, 1),)) for program in load.programs]

    async def close(self) -> None:
        self.closed = True


def test_a_dry_run_draws_every_trace_and_prints_every_arms_command() -> None:
    lines = list(described(_kit()))
    assert [line.partition(":")[0] for line in lines if "programs a round" in line] == list(TRACES)
    commands = {line.partition(":")[0] for line in lines if "vllm.entrypoints.openai.api_server" in line}
    assert commands == set(LADDER)


def test_a_rehearsal_climbs_the_whole_ladder_with_little(capsys: pytest.CaptureFixture[str]) -> None:
    lab, kit = EqualLab(), _kit()
    assert rehearse(kit, lab) == 0
    assert lab.closed
    assert len(lab.served) == len(TRACES) * len(LADDER)
    assert small_plan(kit).size.kv_blocks < kit.plan.size.kv_blocks
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["device"] == "none: a dry run"
    assert {figure["arm"] for figure in told["figures"]} == set(LADDER)


def test_a_rehearsal_that_cannot_run_an_arm_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert rehearse(_kit(arms=[STOCK, OURS]), EqualLab(unable=True)) == 1
    assert "skipped: arm ours: not here" in capsys.readouterr().out


def _kit(arms: Sequence[str] = LADDER) -> Kit:
    engine = _engine()
    plan = Plan(
        traces=list(TRACES),
        loads=[1.25],
        closed=[],
        arms=list(arms),
        rounds=5,
        programs=20,
        minutes=5.0,
        seed=1,
        flags=None,
        knees={},
        size=engine.size,
        scale=SCALE,
        stock=stock_flags(None),
    )
    return Kit(plan, engine, None, 2, own_distributions())
