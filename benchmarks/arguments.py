"""Arguments that several benchmarks take."""

import argparse
from collections.abc import Callable, Sequence


def some_of(known: Sequence[str]) -> Callable[[str], list[str]]:
    """Reads names with commas between them, or `all`; tells of the first that is not known."""

    def parse(text: str) -> list[str]:
        wanted = list(known) if text == "all" else text.split(",")
        strangers = [name for name in wanted if name not in known]
        if strangers:
            raise argparse.ArgumentTypeError(f"{strangers[0]!r} is none of {', '.join(known)}")
        return wanted

    return parse
