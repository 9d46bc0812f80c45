"""The compiled core: which modules of it run, and what is said to mypyc about classes."""

import sys
from importlib.machinery import EXTENSION_SUFFIXES
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr as mypyc_attr  # noqa: PLC0414 - passed on, under the name that mypyc knows
else:

    def mypyc_attr(**_options):  # noqa: ANN003, ANN201 - type checkers see the other one
        """Leave a class as it is: what is said of it is for the compiler."""
        return lambda cls: cls


def compiled_modules() -> list[str]:
    """Return the names of the imported modules of openoutcry that are compiled; none of a pure one."""
    files = {name: getattr(sys.modules[name], "__file__", None) or "" for name in sorted(sys.modules)}
    return [
        name
        for name, file in files.items()
        if name.startswith("openoutcry.")
        and file.endswith(tuple(EXTENSION_SUFFIXES))
        and not name.endswith("__mypyc")  # the library that all of them share
    ]
