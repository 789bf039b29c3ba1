"""What the plugin counts. Everything only grows, but for the last three."""

from dataclasses import asdict, dataclass


@dataclass(slots=True)
class Counters:
    """`warm_resumes`: turns that found at least nine tenths of their program's KV; `cold_resumes`: the others.

    `expiries`: programs whose KV was held no longer; `pressure_evictions`: blocks taken from programs that were waited
    for; `demotions`: blocks of branches that were left. `wasted_block_seconds`: blocks times seconds kept in vain;
    `used_block_seconds`: kept until the program was back. `forced_admissions`: for age or because nothing else ran.
    """

    programs: int = 0
    warm_resumes: int = 0
    cold_resumes: int = 0
    expiries: int = 0
    pressure_evictions: int = 0
    demotions: int = 0
    wasted_block_seconds: float = 0.0
    used_block_seconds: float = 0.0
    forced_admissions: int = 0
    preemptions: int = 0
    hints: int = 0
    ignored_hints: int = 0
    retained_share: float = 0.0
    held_calls: int = 0
    break_even_s: float = 0.0

    def values(self) -> dict[str, float]:
        return {name: float(value) for name, value in asdict(self).items()}
