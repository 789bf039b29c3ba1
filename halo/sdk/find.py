"""Workflows by reference: `module:name`, `path/to/file.py:name`, or the name of an entry point in `halo.workflows`."""

import importlib
import importlib.util
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from halo.sdk.errors import DefinitionInvalid, WorkflowNotFound
from halo.sdk.location import of_error
from halo.sdk.workflow import Workflow
from planner.advice import hint

GROUP = "halo.workflows"


def find_workflow(reference: str) -> Workflow[..., Any]:
    """Raises `WorkflowNotFound`, naming what there is, or `DefinitionInvalid` when the module's definitions are wrong.

    Of a module with one workflow, `module` or `path/to/file.py` alone is enough. A file's folder is put on `sys.path`,
    as if the file were run.
    """
    source, colon, name = reference.rpartition(":") if ":" in reference else (reference, "", "")
    if not colon and not _is_file(reference):
        known = {point.name: point for point in entry_points(group=GROUP)}
        if reference in known:
            return _require_workflow(_load_entry(known[reference]), reference)
        if not _is_module(reference):
            raise WorkflowNotFound(_unknown(f"no workflow is called {reference!r}", reference, sorted(known)))
    module = _load_file(Path(source)) if _is_file(source) else _load_module(source)
    return _in_module(module, name, reference)


def known_workflows() -> list[str]:
    """The names that installed packages registered."""
    return sorted(point.name for point in entry_points(group=GROUP))


def _in_module(module: ModuleType, name: str, reference: str) -> Workflow[..., Any]:
    found = {key: value for key, value in vars(module).items() if isinstance(value, Workflow)}
    if not name and len(found) == 1:
        return next(iter(found.values()))
    if not name:
        what = f"{reference} has {len(found)} workflows; say which, as in {reference}:name"
        raise WorkflowNotFound(_unknown(what, "", sorted(found)))
    if not hasattr(module, name):
        raise WorkflowNotFound(_unknown(f"{reference.rpartition(':')[0]} has no {name!r}", name, sorted(found)))
    return _require_workflow(getattr(module, name), reference)


def _require_workflow(found: object, reference: str) -> Workflow[..., Any]:
    if isinstance(found, Workflow):
        return found
    raise WorkflowNotFound(f"{reference} is a {type(found).__name__}, not a workflow: put @halo.workflow over it")


def _load_entry(point: EntryPoint) -> object:
    _import(point.module)
    try:
        return point.load()
    except AttributeError as error:
        raise WorkflowNotFound(f"the entry point {point.name!r} = {point.value!r} is broken: {error}") from None


def _is_file(source: str) -> bool:
    return source.endswith(".py") or "/" in source


def _is_module(source: str) -> bool:
    _add_to_path(Path.cwd())
    try:
        return importlib.util.find_spec(source) is not None
    except (ImportError, ValueError):
        return False


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except DefinitionInvalid:
        raise
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise WorkflowNotFound(f"there is no module {error.name!r}; you are in {Path.cwd()}") from None
        raise _broken(name, error) from error
    except (Exception, SystemExit) as error:  # a user's module runs here, and may raise anything, or leave
        raise _broken(name, error) from error


def _load_module(name: str) -> ModuleType:
    _add_to_path(Path.cwd())
    return _import(name)


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise WorkflowNotFound(f"there is no file {str(path)!r}; you are in {Path.cwd()}")
    path = path.resolve()
    loaded = sys.modules.get(path.stem)
    if loaded is not None and getattr(loaded, "__file__", None) == str(path):
        return loaded
    if loaded is not None or path.stem in sys.stdlib_module_names:
        raise WorkflowNotFound(f"{path.name} has the name of another module, {path.stem!r}; rename the file")
    _add_to_path(path.parent)
    return _import(path.stem)


def _add_to_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _broken(name: str, error: BaseException) -> WorkflowNotFound:
    where = of_error(error, name)
    return WorkflowNotFound(f"importing {name!r} failed at {where}: {type(error).__name__}: {error}")


def _unknown(what: str, wanted: str, known: list[str]) -> str:
    if not known:
        return f"{what}; there are no workflows there"
    return f"{what}{hint(wanted, known)}; the workflows are: {', '.join(known)}"
