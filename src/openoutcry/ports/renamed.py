"""Former names of what is in `openoutcry.ports`: they still work, with a `DeprecationWarning`."""

import warnings
from typing import TYPE_CHECKING, Any

from openoutcry.ports.journal import DiskTask
from openoutcry.ports.records import Header

_RENAMED = {"Step": DiskTask, "Envelope": Header}

if not TYPE_CHECKING:  # a type checker would take every name for one of the package's
    __all__ = ["__getattr__"]

    def __getattr__(name: str) -> Any:
        """Return what has a former name."""
        found = _RENAMED.get(name)
        if found is None:
            raise AttributeError(f"module 'openoutcry.ports' has no attribute {name!r}")
        warnings.warn(
            f"openoutcry.ports.{name} is called {found.__name__} now", DeprecationWarning, stacklevel=2
        )
        return found
