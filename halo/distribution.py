"""The distribution this code is installed as."""

from importlib.metadata import PackageNotFoundError, version

NAME = "halo-orchestrator"


def installed_version() -> str | None:
    """None where Halo runs from its source, without being installed."""
    try:
        return version(NAME)
    except PackageNotFoundError:
        return None
