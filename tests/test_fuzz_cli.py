"""Command lines that nobody should type, on journals that are well or damaged."""

import pytest
from campaigns.fuzz_cli import _WORDS, CLI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

WORDS = [word.decode("utf-8", "surrogateescape") for word in _WORDS]
BEGINNINGS = [line.decode() for line in CLI.seeds()]


@pytest.mark.parametrize("part", range(4))
def test_every_verb_ends_properly_on_every_kind_of_damage(part):
    for line in CLI.seeds()[part::4]:
        CLI.run(line)


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(BEGINNINGS),
    st.lists(st.sampled_from(WORDS) | st.text(max_size=8).map(lambda t: "\n" + t), max_size=4),
)
def test_more_arguments_are_taken_or_refused(line, more):
    CLI.run((line + "".join(more)).encode("utf-8", "surrogateescape"))


def test_a_file_name_that_is_not_text_is_a_mistake_and_no_traceback():
    CLI.run(b"00\nexport\n@J\n-o\xb8")
