"""Dying at a chosen step of work on files, the same on any machine."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def die_at(nth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process be killed as the `nth` call is made that looks at or changes files by their names."""
    left = [nth]

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)

        return step

    for name in ("fsync", "pwrite", "chown", "open"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
    for name in ("replace", "rename", "unlink", "chmod"):
        monkeypatch.setattr(Path, name, counted(getattr(Path, name)))
