"""Settings: what is in range is kept, what is not says so with value, limit and remedy, from code and from a file."""

import json
from enum import Enum, StrEnum
from pathlib import Path

import pytest

from openoutcry import EventBus
from openoutcry.config import (
    MOST,
    RATE_LEAST,
    BackpressureConfig,
    BusConfig,
    Conflate,
    DropOldest,
    Gate,
    HealthCheckConfig,
    PersistenceConfig,
    RetryPolicy,
    Spill,
    check_flag,
    check_names,
    check_number,
    load_config,
    overflow_policy,
    to_plain,
)
from openoutcry.errors import ConfigError, OpenOutcryError
from openoutcry.events import EventType
from openoutcry.sessions import Expectation

TINY = 5e-324
EPS = 1e-9

# class, field, refused below, accepted, refused above. The limits themselves are in the middle.
NUMBERS = [
    (BackpressureConfig, "warning_threshold", [0, -1], [0.05, 0.5, 0.75], [0.75 + EPS, 1.1]),
    (BackpressureConfig, "high_threshold", [0.5 - EPS, 0], [0.5, 0.8, 0.9], [0.9 + EPS, 1.1]),
    (BackpressureConfig, "critical_threshold", [0.75 - EPS, 0], [0.75, 1, 1.0], [1 + EPS, 2]),
    (BackpressureConfig, "hysteresis", [-EPS, -1], [0, 0.05, 0.5], [0.5 + EPS, 1]),
    (BackpressureConfig, "reserve", [-EPS, -1], [0, 0.05, 0.5], [0.5 + EPS, 1]),
    (BackpressureConfig, "rate_limit_per_s", [0, TINY, -1], [RATE_LEAST, 1, 0.5, MOST], [MOST * 1.01]),
    (BackpressureConfig, "rate_limit_burst", [0, -1], [1, 100, MOST], [MOST + 1, 10**400]),
    (BackpressureConfig, "cooldown_s", [-EPS, -1], [0, 0.5, MOST], [MOST * 1.01]),
    (BackpressureConfig, "grace_s", [0, -1], [TINY, 1, MOST], [MOST * 1.01]),
    (BackpressureConfig, "high_per_normal", [0, -1], [1, 16, MOST], [MOST + 1]),
    (RetryPolicy, "attempts", [0, -1], [1, 3, MOST], [MOST + 1]),
    (RetryPolicy, "first_s", [-EPS], [0, 0.05, 30], [30 + EPS]),
    (RetryPolicy, "factor", [1 - EPS, 0, -4], [1, 1.5, MOST], [MOST * 1.01]),
    (RetryPolicy, "max_s", [0.05 - EPS, 0], [0.05, 30, MOST], [MOST * 1.01]),
    (RetryPolicy, "jitter", [-EPS], [0, 0.25, 1], [1 + EPS]),
    (DropOldest, "limit", [0, -1], [1, 1_000, MOST], [MOST + 1]),
    (HealthCheckConfig, "latency_ms_max", [0, -1], [TINY, 1_000, MOST], [MOST * 1.01]),
    (HealthCheckConfig, "stall_s", [0, -1], [TINY, 30, MOST], [MOST * 1.01]),
    (HealthCheckConfig, "errors_max", [0, -1], [1, 10, MOST], [MOST + 1]),
    (HealthCheckConfig, "loop_lag_ms_max", [0, -1], [TINY, 200, MOST], [MOST * 1.01]),
    (HealthCheckConfig, "commit_ms_max", [0, -1], [TINY, 1_000, MOST], [MOST * 1.01]),
    (HealthCheckConfig, "overrun", [0, 0.99], [1, 2.5, MOST], [MOST * 1.01]),
    (HealthCheckConfig, "check_s", [0, -1], [TINY, 1, 15], [15.1, MOST]),
    (HealthCheckConfig, "lag_window_s", [0, -1], [4, 60, MOST], [MOST * 1.01]),
    (BusConfig, "max_queue_size", [0, -1], [1, 2, 10_000, MOST], [MOST + 1, 10**400]),
    (BusConfig, "signal_timeout", [0, -1], [TINY, 5, 10.0], [10.0 + EPS]),
    (BusConfig, "barrier_timeout", [0, -1, 5 - EPS], [5, 10.0, MOST], [MOST * 1.01]),
    (BusConfig, "history_size", [-1], [0, 10_000, MOST], [MOST + 1]),
    (BusConfig, "dedup_window", [0, -1], [1, 16_384, MOST], [MOST + 1]),
    (BusConfig, "dedup_window_s", [0, -1], [TINY, 600, MOST], [MOST * 1.01]),
    (BusConfig, "stand_in_max_age", [0, -1], [TINY, 30, MOST], [MOST * 1.01]),
]
WHOLE = {
    "rate_limit_burst",
    "high_per_normal",
    "attempts",
    "limit",
    "errors_max",
    "max_queue_size",
    "history_size",
    "dedup_window",
}
IN_RANGE = [(cls, name, value) for cls, name, _, good, _ in NUMBERS for value in good]  # type: ignore[attr-defined]
OUT_OF_RANGE = [(cls, name, value) for cls, name, low, _, high in NUMBERS for value in (*low, *high)]  # type: ignore[misc]
NO_NUMBERS = [
    (cls, name, value)
    for cls, name, *_ in NUMBERS
    for value in (True, False, None, "5", b"5", [5], float("nan"), float("inf"), float("-inf"), 1 + 0j)
    if not (value is None and name == "stand_in_max_age")  # None switches it off
]


@pytest.mark.parametrize(("cls", "name", "value"), IN_RANGE)
def test_what_is_in_range_is_kept_as_it_is(cls, name, value):
    assert getattr(cls(**{name: value}), name) == value


@pytest.mark.parametrize(("cls", "name", "value"), OUT_OF_RANGE)
def test_what_is_out_of_range_is_refused_with_name_value_and_limit(cls, name, value):
    with pytest.raises(ConfigError) as refused:
        cls(**{name: value})
    message = str(refused.value)
    partners = {
        "warning_threshold": "high_threshold",
        "high_threshold": "critical_threshold",
        "first_s": "max_s",
    }
    partners["barrier_timeout"] = "signal_timeout"
    assert name in message or partners[name] in message
    assert repr(value) in message
    assert "it must be " in message
    assert " at most " in message


@pytest.mark.parametrize(("cls", "name", "value"), NO_NUMBERS)
def test_what_is_no_finite_number_is_refused(cls, name, value):
    with pytest.raises(ConfigError, match="it must be "):
        cls(**{name: value})


@pytest.mark.parametrize(("cls", "name"), [(c, n) for c, n, *_ in NUMBERS if n.split(".")[-1] in WHOLE])
def test_a_count_is_an_int_even_where_a_float_has_the_same_value(cls, name):
    with pytest.raises(ConfigError, match=r"it must be a whole number \(an int\)"):
        cls(**{name: 3.0})


def test_every_number_among_the_settings_is_in_the_table_above():
    tested = {(cls, name) for cls, name, *_ in NUMBERS}
    for cls in (BackpressureConfig, RetryPolicy, DropOldest, HealthCheckConfig, BusConfig):
        default = cls()
        for name in cls.__slots__:
            value = getattr(default, name)
            assert (cls, name) in tested or isinstance(value, bool) or not isinstance(value, int | float), (
                name
            )


def test_a_config_error_is_a_value_error_too():
    assert issubclass(ConfigError, ValueError)
    assert issubclass(ConfigError, OpenOutcryError)


def test_settings_cannot_be_changed_behind_the_bus_s_back():
    with pytest.raises(AttributeError):
        BackpressureConfig().reserve = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"high_threshold": 0.4}, "warning_threshold"),
        ({"critical_threshold": 0.7}, "high_threshold"),
        ({"hysteresis": 0.6}, "warning_threshold"),
    ],
)
def test_a_limit_that_is_another_setting_is_named(settings, reason):
    with pytest.raises(ConfigError, match=reason):
        BackpressureConfig(**settings)


def test_a_signal_timeout_beyond_the_barrier_s_is_refused_where_it_is_given():
    with pytest.raises(ConfigError, match=r"signal_timeout is 20.*at most 10.*barrier_timeout"):
        BusConfig(signal_timeout=20, barrier_timeout=10)


def test_equal_thresholds_are_fine():
    BackpressureConfig(warning_threshold=1, high_threshold=1, critical_threshold=1, hysteresis=1)


@pytest.mark.parametrize("value", [0, 1, None, "yes", [], "true"])
def test_a_flag_is_true_or_false_and_nothing_like_it(value):
    with pytest.raises(ConfigError, match=r"in_order is .*; it must be True or False"):
        RetryPolicy(in_order=value)
    with pytest.raises(ConfigError):
        check_flag("f", value)


@pytest.mark.parametrize("value", [True, False])
def test_a_flag_may_be_true_or_false(value):
    check_flag("f", value)
    assert RetryPolicy(in_order=value).in_order is value


class Own(Enum):
    NEWS = "news"


NAMES = [
    (BackpressureConfig, "shed_first"),
    (BackpressureConfig, "shed_last"),
    (BusConfig, "kill_switch_releasers"),
]


@pytest.mark.parametrize(("cls", "name"), NAMES)
@pytest.mark.parametrize("value", [["news", "x"], ("x", Own.NEWS), {"news", "x"}, frozenset({"x", "news"})])
def test_names_may_come_in_any_collection_and_as_enum_members(cls, name, value):
    assert getattr(cls(**{name: value}), name) == {"news", "x"}


@pytest.mark.parametrize(("cls", "name"), NAMES)
def test_no_names_at_all_are_fine(cls, name):
    assert getattr(cls(**{name: ()}), name) == frozenset()


@pytest.mark.parametrize(("cls", "name"), NAMES)
@pytest.mark.parametrize(
    "value", ["market_data", EventType.SYSTEM, b"x", None, 5, [1], [""], ["a", None], [["a"]]]
)
def test_names_that_are_no_collection_of_strings_are_refused(cls, name, value):
    with pytest.raises(ConfigError, match=f"{name} is .*; it must be a list of strings"):
        cls(**{name: value})


def test_the_bus_does_not_take_a_single_name_apart_either():
    with pytest.raises(ConfigError, match=r"kill_switch_releasers is 'risk'; it must be a list of strings"):
        EventBus(kill_switch_releasers="risk")


def test_names_are_plain_strings_whatever_they_came_as():
    assert {type(name) for name in check_names("n", [EventType.SIGNAL, Own.NEWS])} == {str}


@pytest.mark.parametrize("name", ["shed_first", "shed_last"])
@pytest.mark.parametrize(
    "event_type", ["fill", EventType.KILL_SWITCH, EventType.RISK_ALERT, "validated_decision"]
)
def test_a_high_priority_type_cannot_be_shed(name, event_type):
    with pytest.raises(ConfigError, match=f"{name} has .*{event_type!s}.* never shed"):
        BackpressureConfig(**{name: [event_type]})  # type: ignore[arg-type]


def test_a_type_is_shed_first_or_last_and_not_both():
    with pytest.raises(ConfigError, match=r"\['order'\] are in both"):
        BackpressureConfig(shed_first=["order"])


def test_only_backpressure_settings_are_taken_for_such():
    with pytest.raises(ConfigError, match=r"backpressure is .*; it must be a BackpressureConfig"):
        BusConfig(backpressure={"reserve": 0.1})  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["symbol", len])
def test_a_conflation_key_is_an_attribute_or_a_function(key):
    assert Conflate(key).key is key


@pytest.mark.parametrize("key", ["", None, 5, ["symbol"]])
def test_anything_else_is_no_conflation_key(key):
    with pytest.raises(ConfigError, match=r"Conflate\.key is .*; it must be the name of an attribute"):
        Conflate(key)


@pytest.mark.parametrize(
    ("given", "policy"),
    [
        ("spill", Spill()),
        ("gate", Gate()),
        ("conflate", Conflate("symbol")),
        ("drop_oldest", DropOldest(1_000)),
        (DropOldest(5), DropOldest(5)),
        (Conflate("book"), Conflate("book")),
    ],
)
def test_an_overflow_policy_may_be_named_or_given(given, policy):
    assert overflow_policy(given) == policy


@pytest.mark.parametrize("given", ["", "Gate", None, 5, DropOldest, ["gate"], b"gate"])
def test_an_unknown_overflow_policy_is_refused_with_the_known_ones(given):
    with pytest.raises(ConfigError, match=r"\['conflate', 'drop_oldest', 'gate', 'spill'\], or Spill\(\)"):
        overflow_policy(given)


@pytest.mark.parametrize("given", ["a.db", Path("a.db")])
def test_a_journal_s_path_may_be_a_string(given):
    assert PersistenceConfig(path=given).path == Path("a.db").absolute()


@pytest.mark.parametrize("given", ["", None, 5, True])
def test_a_journal_s_path_must_be_one(given):
    with pytest.raises(ConfigError, match=r"path is .*; it must be the path of a file"):
        PersistenceConfig(path=given)


def test_a_number_may_be_bounded_below_exclusively():
    check_number("n", EPS, 0, above=True)
    with pytest.raises(ConfigError, match="n is 0; it must be above 0"):
        check_number("n", 0, 0, above=True)


@pytest.mark.parametrize(
    "config",
    [BusConfig(kill_switch_releasers=["b", "a"]), BackpressureConfig(), PersistenceConfig(), RetryPolicy()],
)
def test_settings_are_ready_for_json(config):
    assert json.loads(json.dumps(to_plain(config))).keys() == set(type(config).__slots__)


def test_sets_inside_of_settings_are_sorted_lists_in_json():
    plain = to_plain(BusConfig(kill_switch_releasers=["b", "a"]))
    assert plain["kill_switch_releasers"] == ["a", "b"]
    assert plain["backpressure"]["shed_last"] == ["decision", "order", "signal"]


# -- from a file --------------------------------------------------------------------------------------


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "firm.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_file_gives_the_arguments_of_the_bus(tmp_path):
    path = written(
        tmp_path,
        """
        [bus]
        max_queue_size = 500
        barrier_timeout = 20
        stand_in_max_age = 90
        kill_switch_releasers = ["risk"]
        [backpressure]
        reserve = 0.1
        shed_first = ["market_data", "news"]
        """,
    )
    arguments = load_config(path).arguments()
    assert arguments["max_queue_size"] == 500
    assert arguments["stand_in_max_age"] == 90
    assert arguments["kill_switch_releasers"] == {"risk"}
    assert arguments["backpressure_config"] == BackpressureConfig(
        reserve=0.1,
        shed_first=["market_data", "news"],
    )
    assert "backpressure" not in arguments


@pytest.mark.parametrize("text", ["", "[bus]\n", "[backpressure]\n", "# nothing\n"])
def test_what_a_file_leaves_out_has_its_default(tmp_path, text):
    assert load_config(str(written(tmp_path, text))) == BusConfig()


def test_a_byte_order_mark_at_the_head_of_a_file_is_nothing_to_stumble_over(tmp_path):
    assert load_config(written(tmp_path, b"\xef\xbb\xbf[bus]\nhistory_size = 7\n")).history_size == 7


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (
            "[bus]\nmax_queue = 5",
            r"\[bus\] has unknown settings \['max_queue'\]; known are .*'max_queue_size'",
        ),
        ("[backpressure]\nreserved = 1", r"\[backpressure\] has unknown settings \['reserved'\]"),
        ("[health]\nstall = 1", r"\[health\] has unknown settings \['stall'\]; known are .*'stall_s'"),
        ("max_queue_size = 5", r"unknown settings \['max_queue_size'\]"),
        ("[bus.backpressure]\nreserve = 0.1", r"\[bus\] has unknown settings \['backpressure'\]"),
        ("bus = 5", r"bus is 5; it must be a table: \[bus\]"),
        ("[[bus]]\nmax_queue_size = 5", "it must be a table"),
        ("[bus]\nmax_queue_size = '5'", "max_queue_size is '5'; it must be a whole number"),
        ("[bus]\nmax_queue_size = 0", "max_queue_size is 0; it must be at least 1"),
        ("[bus]\nmax_queue_size = 5.0", "max_queue_size is 5.0"),
        ("[bus]\nsignal_timeout = true", "signal_timeout is True"),
        ("[bus]\nbarrier_timeout = nan", "barrier_timeout is nan"),
        ("[bus]\nbarrier_timeout = inf", "barrier_timeout is inf"),
        ("[bus]\nkill_switch_releasers = 'risk'", "kill_switch_releasers is 'risk'; it must be a list"),
        ("[backpressure]\nshed_first = [1]", r"shed_first is \[1\]; it must be a list of strings"),
        ("[backpressure]\nshed_first = ['fill']", "never shed"),
        ("[backpressure]\nreserve = 1979-05-27", "reserve is datetime"),
        ("[bus\n", "is not valid TOML"),
        ("[bus]\n[bus]\n", "is not valid TOML"),
        (b"[bus]\nx = '\xff'", "is not valid TOML in UTF-8"),
        (b"\xff\xfe[\x00b\x00", "is not valid TOML in UTF-8"),
    ],
)
def test_a_mistake_in_a_file_is_named_with_the_file(tmp_path, text, match):
    path = written(tmp_path, text)
    with pytest.raises(ConfigError, match=match) as refused:
        load_config(path)
    assert "firm.toml" in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read the settings file .*none\.toml.*No such file"):
        load_config(tmp_path / "none.toml")


def test_a_folder_is_no_settings_file(tmp_path):
    with pytest.raises(ConfigError, match="cannot read the settings file"):
        load_config(tmp_path)


def test_a_path_that_cannot_be_one_is_refused_like_a_bad_file():
    with pytest.raises(ConfigError, match="null"):
        load_config("a\0b")


@pytest.mark.parametrize("name", ["ORDER", "kill-switch", "OrderEvent", "order.*", "*"])
def test_an_event_type_that_is_misspelt_in_a_setting_is_refused(name):
    for make in (
        lambda: PersistenceConfig(levels={name: "disk"}),
        lambda: BackpressureConfig(shed_first=frozenset({name})),
        lambda: BackpressureConfig(shed_last=frozenset({name})),
        lambda: Expectation(event_type=name, every_s=1),
    ):
        with pytest.raises(ConfigError, match=r"did you mean|give the class itself|in a list"):
            make()


def test_an_event_type_that_is_like_a_known_one_is_warned_of_in_a_setting():
    with pytest.warns(UserWarning, match="levels 'oder': did you mean 'order'"):
        assert PersistenceConfig(levels={"oder": "disk"}).levels == {"oder": "disk"}
    with pytest.warns(UserWarning, match="shed_last 'signals': did you mean 'signal'"):
        BackpressureConfig(shed_last=frozenset({"signals"}))


def test_a_type_of_an_enum_of_ones_own_is_never_refused():
    class Kind(StrEnum):
        ORDER = "ORDER"
        NEWS = "news"

    with pytest.warns(UserWarning, match="levels 'ORDER': did you mean 'order'"):
        assert PersistenceConfig(levels={Kind.ORDER: "disk", Kind.NEWS: "disk"}).levels["ORDER"] == "disk"
