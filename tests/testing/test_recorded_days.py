"""A recorded day is a fixture: who does otherwise fails the test, by name."""

import sys
from pathlib import Path

import pytest
import replayed_firm

from openoutcry.testing import NotAsRecorded, same_as_recorded

HERE = str(Path(replayed_firm.__file__).parent)


def test_a_day_is_a_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [HERE, *sys.path])
    day = tmp_path / "day.db"
    replayed_firm.record(day)
    assert same_as_recorded(day, replayed_firm.Firm).entries_count == 260
    with pytest.raises(
        NotAsRecorded, match=r"1 differences.*\n  slow published another signal on ES"
    ) as caught:
        same_as_recorded(day, replayed_firm.OtherRationale)
    assert caught.value.replayed.differences[0].fields[0].replayed == "because"
