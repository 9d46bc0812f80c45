"""Fixtures of the durable bus."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from durable_kit import Disk


@pytest.fixture(params=["memory", "sqlite"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    """A journal of each kind, with what becomes of it over crashes and restarts."""
    found = Disk(request.param, tmp_path / "disk")
    yield found
    found.close()
