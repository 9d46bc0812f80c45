"""What is saved beside the log: the rows of cursors."""

import json

from hypothesis import given
from hypothesis import strategies as st

from openoutcry.journals import saved
from openoutcry.journals.rows import Chain
from openoutcry.ports import CursorState


@given(
    st.text(),
    st.sampled_from(["control", "high", "normal"]),
    st.integers(0, 2**63 - 1),
    st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), max_size=3),
    st.lists(st.text(), max_size=3),
)
def test_the_checksum_of_a_cursor_is_that_of_its_row_as_json(
    name: str, lane: str, floor: int, settled: list[tuple[int, int]], takes: list[str]
) -> None:
    cursor = CursorState(
        subscription=name, lane=lane, floor=floor, settled=tuple(settled), takes=tuple(takes)
    )
    *values, checksum = saved._cursor_row(cursor, Chain())
    assert values == [name, lane, floor, json.dumps(settled), json.dumps(takes)]
    assert checksum == Chain().seal(json.dumps(values))
