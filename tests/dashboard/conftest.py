"""A journal with some ticks, and the page of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from page_kit import ACT, LOOK, Client, clock, served, tick, write_events

from openoutcry.clocks import VirtualClock


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "firm.db"
    write_events(path, [tick(number, source_agent="feed") for number in range(35)])
    return path


@pytest.fixture
def time() -> VirtualClock:
    return clock()


@pytest.fixture
def anybody(journal: Path, tmp_path: Path, time: VirtualClock) -> Iterator[Client]:
    with served(journal, tmp_path, clock=time) as client:
        yield client


@pytest.fixture
def looker(anybody: Client) -> Client:
    return anybody.log_in(LOOK)


@pytest.fixture
def actor(anybody: Client) -> Client:
    return anybody.log_in(ACT)
