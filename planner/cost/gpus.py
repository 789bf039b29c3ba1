"""What a GPU of each kind can do at most, and how much of that engines get out of it."""

from dataclasses import dataclass

_PCIE_3, _PCIE_4, _PCIE_5 = 16.0, 32.0, 64.0  # 16 lanes, one way


@dataclass(frozen=True, slots=True)
class Efficiency:
    """What lies between a data sheet and a measured time.

    `compute` and `memory` are the shares of peak arithmetic and bandwidth that matrix products reach, `attention` that
    of peak arithmetic in attention. `blend` is the p of the p-norm of compute and memory time: 1 adds them, infinity
    overlaps them fully. `launch_s` is what a layer takes at least, `step_s` what an engine adds to each step:
    scheduling, sampling, detokenising.
    """

    compute: float
    memory: float
    blend: float
    launch_s: float
    attention: float = 0.5
    step_s: float = 2e-3


@dataclass(frozen=True, slots=True)
class Gpu:
    """One device. Peaks are dense bf16; `link_gb_per_s` is one way, to the others of its tensor-parallel group,
    `host_gb_per_s` one way to the memory of its host, as the data sheet's bus has it.

    `board_watts` is what the board may draw at most, as the data sheet says; 0 is not known.

    `calibrated` says that `compute`, `memory`, `blend` and `launch_s` are fitted to measurements on this kind. `source`
    says to which, and who gives the peaks.
    """

    name: str
    peak_tflops: float
    memory_gb_per_s: float
    memory_gb: float
    link_gb_per_s: float
    source: str
    efficiency: Efficiency
    calibrated: bool = False
    host_gb_per_s: float = _PCIE_4
    board_watts: float = 0.0

    @property
    def peak_flops(self) -> float:
        return self.peak_tflops * 1e12

    @property
    def peak_bytes_per_s(self) -> float:
        return self.memory_gb_per_s * 1e9


_VIDUR = "efficiency fitted to operator times measured by Vidur (MLSys 2024)"
#: Between those of the three measured kinds; what a kind really reaches depends on its kernels and its power limit.
_ASSUMED = Efficiency(compute=0.7, memory=0.8, blend=1.6, launch_s=36e-6)


def _from_data_sheet(
    name: str,
    vendor: str,
    tflops: float,
    gb_per_s: float,
    memory_gb: float,
    link_gb_per_s: float,
    host_gb_per_s: float = _PCIE_4,
    *,
    board_watts: float,
) -> Gpu:
    source = f"{vendor} data sheet; efficiency assumed, not measured"
    return Gpu(
        name, tflops, gb_per_s, memory_gb, link_gb_per_s, source, _ASSUMED, False, host_gb_per_s, board_watts
    )  # fmt: skip


# From `python -m benchmarks.planner.cost_model`, fitted on all models; attention and the step are assumed here too.
_A100 = Efficiency(compute=0.695, memory=0.769, blend=1.702, launch_s=35.5e-6)
_H100 = Efficiency(compute=0.697, memory=0.948, blend=1.444, launch_s=38.4e-6)
_A40 = Efficiency(compute=0.769, memory=0.795, blend=1.749, launch_s=32.3e-6)

A100_80 = Gpu("A100-80", 312, 2039, 80, 300, f"NVIDIA data sheet (SXM); {_VIDUR}", _A100, True, board_watts=400)
_LLAMA_ON_CPU = (
    "a CPU build of vLLM on two cores with AVX-512 bf16, a 4 M-parameter Llama: 1,000, 4,000 and 8,000 prompt tokens "
    "in 0.054, 0.355 and 1.2 s; 200 tokens after a prompt of 100 in 0.49 to 0.58 s; 8 calls of 100 tokens in 0.32 s; "
    "the peaks are round figures"
)

GPUS = (
    Gpu("A100-40", 312, 1555, 40, 300, f"NVIDIA data sheet (SXM); {_VIDUR} on A100-80", _A100, board_watts=400),
    A100_80,
    Gpu("H100", 989, 3350, 80, 450, f"NVIDIA data sheet (SXM); {_VIDUR}", _H100, True, _PCIE_5, 700),
    Gpu("H200", 989, 4800, 141, 450, f"NVIDIA data sheet (SXM); {_VIDUR} on H100", _H100, False, _PCIE_5, 700),
    _from_data_sheet("B200", "NVIDIA", 2250, 8000, 180, 900, _PCIE_5, board_watts=1000),
    _from_data_sheet("L40S", "NVIDIA", 362, 864, 48, _PCIE_4, board_watts=350),
    _from_data_sheet("A6000", "NVIDIA", 154.8, 768, 48, 56, board_watts=300),
    Gpu("A40", 149.7, 696, 48, 56, f"NVIDIA data sheet; {_VIDUR}", _A40, True, board_watts=300),
    _from_data_sheet("A10", "NVIDIA", 125, 600, 24, _PCIE_4, board_watts=150),
    _from_data_sheet("L4", "NVIDIA", 121, 300, 24, _PCIE_4, board_watts=72),
    # It has no bf16: the peak is that of fp16, which engines use instead.
    _from_data_sheet("T4", "NVIDIA", 65, 320, 16, _PCIE_3, _PCIE_3, board_watts=70),
    _from_data_sheet("RTX-4090", "NVIDIA", 165, 1008, 24, _PCIE_4, board_watts=450),
    _from_data_sheet("MI300X", "AMD", 1307, 5300, 192, 448, _PCIE_5, board_watts=750),
    Gpu(
        "cpu",
        1.0,
        20,
        4,
        10,
        _LLAMA_ON_CPU,
        Efficiency(compute=0.21, memory=0.22, blend=1.2, launch_s=0.1e-3, attention=0.16, step_s=0.5e-3),
        calibrated=True,
    ),
)
#: Stands in for kinds that nobody has named.
REFERENCE = A100_80

_BY_NAME = {gpu.name.lower(): gpu for gpu in GPUS}
_SPELLINGS = {
    "a100": "a100-80",
    "a100-80gb": "a100-80",
    "a100-40gb": "a100-40",
    "rtx4090": "rtx-4090",
    "4090": "rtx-4090",
}


def gpu_named(name: str) -> Gpu | None:
    """The profile of a kind as fleet files write it (`A100`, `NVIDIA H100`); `None` where there is none."""
    plain = name.strip().lower().removeprefix("nvidia ").removeprefix("amd ").replace(" ", "-")
    return _BY_NAME.get(_SPELLINGS.get(plain, plain))
