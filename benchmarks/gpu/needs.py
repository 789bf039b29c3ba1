"""What a wheel needs where it is going, by what the wheel itself says."""

import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from email.parser import HeaderParser
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version


class NotReadable(Exception):
    """A file is not what it should be; the message is for people."""


def environment_of(python: str) -> dict[str, str]:
    """What markers are judged by: CPython `python` (as in 3.12) on 64-bit Linux."""
    return {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "implementation_name": "cpython",
        "implementation_version": f"{python}.0",
        "platform_python_implementation": "CPython",
        "os_name": "posix",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
        "platform_release": "",
        "platform_version": "",
    }


def versions_in(listing: str) -> dict[str, Version]:
    """By distribution, from what `pip list --format=freeze` printed. Versions that are none are left out."""
    found = {}
    for name, version in re.findall(r"^([\w.-]+)==(\S+)$", listing, re.MULTILINE):
        try:
            found[str(canonicalize_name(name))] = Version(version)
        except InvalidVersion:
            continue
    return found


def needs_of(wheel: Path, extras: Iterable[str], environment: Mapping[str, str]) -> list[Requirement]:
    """What a wheel with these extras needs there. Raises `NotReadable`."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            (name,) = (name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
            lines = HeaderParser().parsestr(archive.read(name).decode()).get_all("Requires-Dist", [])
        needs = [Requirement(line) for line in lines]
    except (zipfile.BadZipFile, ValueError, InvalidRequirement) as problem:
        raise NotReadable(f"{wheel.name} is no wheel ({problem}): remove it and run again") from None
    return [need for need in needs if _applies(need, ["", *extras], environment)]


def _applies(need: Requirement, extras: Sequence[str], environment: Mapping[str, str]) -> bool:
    return need.marker is None or any(need.marker.evaluate({**environment, "extra": extra}) for extra in extras)


def together(needs: Iterable[Requirement]) -> dict[str, Requirement]:
    """By distribution, one requirement that asks for all that the given ones do; in order of first mention."""
    found: dict[str, Requirement] = {}
    for need in needs:
        name = str(canonicalize_name(need.name))
        both = found.setdefault(name, Requirement(name))
        both.specifier &= need.specifier
        both.extras |= need.extras
    return found


def is_met(need: Requirement, version: Version | None) -> bool:
    return version is not None and need.specifier.contains(version, prereleases=True)


def wheels_in(folder: Path) -> dict[str, list[Path]]:
    """By distribution, the latest version first."""
    found: dict[str, list[Path]] = {}
    for wheel in sorted(folder.glob("*.whl"), key=version_of, reverse=True):
        found.setdefault(str(parse_wheel_filename(wheel.name)[0]), []).append(wheel)
    return found


def version_of(wheel: Path) -> Version:
    return parse_wheel_filename(wheel.name)[1]
