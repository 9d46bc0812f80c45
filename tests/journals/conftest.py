"""Journals of every kind, closed after the test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from journal_kit import Factory, without_apsw

from openoutcry.journals import SqliteJournal
from openoutcry.ports import Journal

KINDS = ["memory", "sqlite", "sqlite keyed", pytest.param("sqlite apsw", marks=without_apsw)]


@pytest.fixture(params=KINDS)
def factory(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Factory]:
    made = Factory(request.param, tmp_path)
    yield made
    made.close_all()


@pytest.fixture
def journal(factory: Factory) -> Journal:
    return factory.open()


@pytest.fixture(params=["sqlite3", pytest.param("apsw", marks=without_apsw)])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "firm.db"


@pytest.fixture
def file(path: Path, engine: str) -> Iterator[SqliteJournal]:
    with SqliteJournal(path, engine=engine) as opened:  # type: ignore[arg-type]
        yield opened
