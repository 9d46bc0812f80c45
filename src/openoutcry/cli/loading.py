"""Finds the object that `MODULE:APP` names."""

import difflib
import importlib
import sys
from pathlib import Path
from types import ModuleType

from openoutcry.cli.mistakes import AppFailed, Mistake


def load_app(target: str, directory: Path) -> object:
    """Import MODULE from `directory` (or from what is installed) and return its attribute APP, dots allowed.

    Raises `Mistake` if there is no such module or attribute, and `AppFailed` if the module itself raises.
    """
    module_name, _, path = target.partition(":")
    if not module_name or not path:
        raise Mistake(
            f"{target!r} does not name an app: write MODULE:APP, such as firm:app for app in firm.py"
        )
    if "/" in module_name or module_name.endswith(".py"):
        dotted = module_name.removesuffix(".py").strip("./").replace("/", ".")
        raise Mistake(f"{module_name!r} is a file name: write the module's name, {dotted}:{path}")
    found: object = _import(module_name, directory)
    for name in path.split("."):
        found = _attribute(found, name, target)
    return found


def _import(name: str, directory: Path) -> ModuleType:
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(f"{missing}."):
            raise Mistake(_no_module(missing, directory)) from None
        raise Mistake(f"{name} imports {missing!r}, which is not installed here: install it first") from None
    except SyntaxError as error:
        raise Mistake(f"{error.filename}, line {error.lineno}: {error.msg}") from None
    except Exception as error:
        raise AppFailed(f"{name} could not be imported", error) from error


def _no_module(name: str, directory: Path) -> str:
    here = [path.stem for path in directory.glob("*.py")]
    here += [path.parent.name for path in directory.glob("*/__init__.py")]
    near = difflib.get_close_matches(name, here, n=1)
    hint = f"did you mean {near[0]}?" if near else "run this in the directory that holds it, or install it"
    return f"there is no module {name!r} in {directory}, nor is one installed: {hint}"


def _attribute(holder: object, name: str, target: str) -> object:
    try:
        return getattr(holder, name)
    except AttributeError:
        public = (
            [known for known in vars(holder) if not known.startswith("_")]
            if hasattr(holder, "__dict__")
            else []
        )
        near = difflib.get_close_matches(name, public, n=1)
        hint = (
            f"did you mean {near[0]}?"
            if near
            else f"it has {', '.join(sorted(public)[:8]) or 'no public names'}"
        )
        raise Mistake(f"{target!r}: {getattr(holder, '__name__', holder)} has no {name!r}; {hint}") from None
