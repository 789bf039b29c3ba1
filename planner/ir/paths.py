"""How a stage of a running program is named: the way to it through bodies, e.g. `revise#2/fix` or `draft[0]/write`."""


def item_prefix(path: str, index: int) -> str:
    """Where the stages of the `index`-th item of the Map at `path` live."""
    return f"{path}[{index}]/"


def round_prefix(path: str, index: int) -> str:
    """Where the stages of the `index`-th round of the Loop at `path` live."""
    return f"{path}#{index}/"


def branch_prefix(path: str, index: int) -> str:
    """Where the stages of a Choose's branch live; `otherwise` counts as the branch after the last case."""
    return f"{path}?{index}/"


def turn_path(path: str, turn: int) -> str:
    """The model call of an Agent's `turn`."""
    return f"{path}#{turn}"


def tool_path(path: str, turn: int, index: int) -> str:
    """The `index`-th tool an Agent's `turn` asked for."""
    return f"{path}#{turn}/{index}"


def insides(path: str) -> tuple[str, str, str]:
    """How the paths of all that is inside the node at `path` begin: its items, its rounds or turns, its branches."""
    return f"{path}[", f"{path}#", f"{path}?"
