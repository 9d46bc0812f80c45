"""A connection that several threads use."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from openoutcry.journals.engines import Connection, EngineName, connect

CALLS: dict[str, Callable[[Connection], object]] = {
    "run": lambda connection: connection.run("SELECT held()"),
    "rows": lambda connection: list(connection.rows("SELECT held()")),
    "run_many": lambda connection: connection.run_many("INSERT INTO t VALUES(held() + ?)", [(1,)]),
}


@pytest.fixture(params=["sqlite3", "apsw"])
def connection(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    engine: EngineName = request.param
    pytest.importorskip(engine)
    path = tmp_path / "a.db"
    path.touch()
    with closing(connect(path, engine, "rw")) as made:
        made.run("CREATE TABLE t(a)")
        yield made


@pytest.mark.parametrize("call", CALLS)
def test_a_call_has_the_connection_to_itself_until_its_error_is_known(connection: Any, call: str):
    began, may_end = Event(), Event()

    def held() -> int:
        began.set()
        may_end.wait()
        return 1

    library = connection._db
    make = getattr(library, "create_scalar_function", None)
    if make is not None:
        make("held", held, 0)
    else:
        library.create_function("held", 0, held)
    thread = Thread(target=CALLS[call], args=(connection,))
    thread.start()
    began.wait()
    is_free = connection.turn.acquire(blocking=False)
    may_end.set()
    thread.join()
    assert not is_free
    assert connection.turn.acquire(blocking=False)
    connection.turn.release()


def test_a_query_that_is_given_up_within_a_call_closes_its_cursor(connection: Any):
    rows = connection.rows("SELECT 1 UNION SELECT 2")
    assert next(rows) == (1,)
    with connection.turn:  # as where the garbage collector comes in between
        rows.close()
    assert list(connection.rows("SELECT 3")) == [(3,)]
