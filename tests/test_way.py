"""The way of a journaled event, from its publish call to the handler's first line, does not grow unnoticed."""

import asyncio
from pathlib import Path

import pytest
from benchmarks import way

BOUNDED = [kind for kind in way.KINDS if kind.most is not None]


def test_an_order_a_fill_and_a_signal_are_bounded() -> None:
    assert [kind.name for kind in BOUNDED] == ["order, journaled", "fill at disk", "signal, journaled"]


@pytest.mark.parametrize("engine", ["sqlite3", "apsw"])
@pytest.mark.parametrize("kind", BOUNDED, ids=lambda kind: kind.name)
def test_the_way_is_no_longer_than_its_bound(kind: way.Kind, engine: way.Engine, tmp_path: Path) -> None:
    pytest.importorskip(engine)
    taken = asyncio.run(way.trace(kind, tmp_path, engine))
    frames_count, modules_count = way.size(taken)
    assert kind.most is not None
    frames_most, modules_most = kind.most
    assert 0 < frames_count <= frames_most, f"the calls:\n{way.show(taken)}"
    assert 0 < modules_count <= modules_most, f"the modules: {sorted({step.module for step in taken})}"
