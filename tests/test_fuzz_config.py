"""Settings files that nobody should write: a bus that can be made, or a `ConfigError`."""

import pytest
from campaigns.fuzz_targets import CONFIG, _setting_names
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openoutcry.config import load_config
from openoutcry.errors import ConfigError

few = settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
VALUES = st.one_of(
    st.integers().map(str),
    st.floats().map(repr),
    st.sampled_from(
        [
            "true",
            "false",
            '""',
            '"x"',
            "[]",
            "[[]]",
            "{}",
            "{a=1}",
            "2025-11-24",
            "16:00:00",
            "[1]",
            '["a", ""]',
            '"\\u0000"',
            "nan",
            "-inf",
        ]
    ),
)


@few
@given(st.lists(st.tuples(st.sampled_from(_setting_names()), VALUES), min_size=1, max_size=5))
def test_any_value_of_any_setting_is_taken_or_refused(given_settings):
    tables = {}
    for name, value in given_settings:
        section, key = name.split()
        tables.setdefault(section, {})[key] = value
    lines = []
    for section, values in tables.items():
        lines += [f"[{section}]", *(f"{key} = {value}" for key, value in values.items())]
    CONFIG.run("\n".join(lines).encode())


@few
@given(st.sampled_from(CONFIG.seeds()), st.integers(min_value=0), st.binary(max_size=6), st.integers(0, 6))
def test_a_damaged_settings_file_is_taken_or_refused(data, at, put, gone):
    at %= len(data) + 1
    CONFIG.run(data[:at] + put + data[at + gone :])


def test_settings_nested_too_deeply_to_be_read_are_a_config_error(tmp_path):
    file = tmp_path / "deep.toml"
    file.write_text("s = " + "[" * 5_000)
    with pytest.raises(ConfigError, match=r"deep\.toml"):
        load_config(file)
