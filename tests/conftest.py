"""Journals, disks and engines of every kind, closed after the test; examples that may take their time."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from durable_kit import Disk
from engine_kit import ENGINES, Engine
from hypothesis import HealthCheck, settings
from journal_kit import Factory, without_apsw

from openoutcry.events.registry import upcasters
from openoutcry.journals import SqliteJournal
from openoutcry.links.nats.servers import Servers
from openoutcry.ports import Journal
from openoutcry.testing import run_virtual

# How long an example takes says something about the machine, and nothing about the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
# (The same goes for the real seconds that a run in virtual time may take where a test does not say.)
run_virtual.__kwdefaults__["limit_s"] = 600.0


@pytest.fixture
def upcasters_of_this_test() -> Iterator[None]:
    """What a test registers is gone with it."""
    before = {name: dict(steps) for name, steps in upcasters.items()}
    yield
    upcasters.clear()
    upcasters.update(before)


@pytest.fixture(scope="session", params=list(ENGINES))
def link_engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An engine of each kind, for links between desks."""
    with ENGINES[request.param]() as found:
        yield found


KINDS = ["memory", "sqlite", "sqlite keyed", pytest.param("sqlite apsw", marks=without_apsw)]


@pytest.fixture(params=["memory", "sqlite"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    """A journal of each kind, with what becomes of it over crashes and restarts."""
    found = Disk(request.param, tmp_path / "disk")
    yield found
    found.close()


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


@pytest.fixture(scope="session")
def one_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """A NATS server for all tests, each of which has a firm of its own. Nobody harms it."""
    with Servers(tmp_path_factory.mktemp("one-node")) as servers:
        yield servers


@pytest.fixture(scope="session")
def three_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """A cluster of three NATS servers for all tests. Nobody harms it."""
    with Servers(tmp_path_factory.mktemp("three-nodes"), 3) as servers:
        yield servers
