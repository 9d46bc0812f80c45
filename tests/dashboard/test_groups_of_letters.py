"""Dead letters by what went wrong, for the page."""

import pytest

from openoutcry.dashboard.letters import Ids, ids_in_memory, remembered


@pytest.mark.parametrize("error", ["order 17 failed", "\u202e" * 200 + " order 17 failed", "", "x" * 900])
def test_the_letters_of_a_group_are_found_by_its_error(error):
    kept = {"letter_id": 3, "subscription": "books", "reason": "failed", "error": error, "event": {}}
    page = {"letters": [kept], "total": 1, "next_after": None}
    (group,) = remembered([page]).groups
    assert ids_in_memory(page, group.error) == Ids([3], None)
    assert ids_in_memory(page, "another mistake") == Ids([], None)
