"""Records as JSON: one line each, whatever they hold, which any reader of JSON takes."""

import json
import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from openoutcry.cli import main
from openoutcry.logs import about
from openoutcry.observers.json_logs import EXTRA_MOST, EXTRAS_MOST, MESSAGE_MOST, TRACE_MOST, JsonFormatter
from openoutcry.printable import is_obeyed

EVIL = "x\x1b[31m\x9b2J\r\nforged\u202e\u2028\u200b\x7f\ud800"
LONGEST = MESSAGE_MOST + EXTRAS_MOST * (EXTRA_MOST + 200) + 2 * TRACE_MOST


class Rude:
    def __repr__(self) -> str:
        raise ValueError(EVIL)

    __str__ = __repr__


class RudeError(Exception):
    def __str__(self) -> str:
        raise ValueError(EVIL)

    __repr__ = __str__


def line_of(message: object = "said", *args: object, exc: BaseException | None = None, **extra: Any) -> str:
    """The line of a record of another logger than openoutcry's, with nothing made safe before."""
    info = None if exc is None else (type(exc), exc, exc.__traceback__)
    record = logging.getLogger("theirs").makeRecord(
        "theirs",
        logging.WARNING,
        __file__,
        1,
        message,
        args,
        info,
        extra=extra,
    )
    return JsonFormatter().format(record)


def throw(error: Exception) -> None:
    raise error


def read(line: str) -> dict[str, Any]:
    assert {c for c in line if is_obeyed(c)} == set()
    found: dict[str, Any] = json.loads(line)
    return found


def test_a_record_has_its_time_in_utc_level_logger_message_and_extras() -> None:
    found = read(line_of("%s of %d", "one", 3, order_id="o-1", count=2, ok=True, nothing=None, share=0.5))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", found.pop("time"))
    assert found == {
        "level": "WARNING",
        "logger": "theirs",
        "message": "one of 3",
        "order_id": "o-1",
        "count": 2,
        "ok": True,
        "nothing": None,
        "share": 0.5,
    }


def test_the_fields_come_first_and_in_one_order() -> None:
    line = line_of(zebra=1, apple=2)
    assert list(json.loads(line)) == ["time", "level", "logger", "message", "zebra", "apple"]


def test_an_extra_whose_name_is_taken_gets_another_one() -> None:
    found = read(line_of(time="t", level="l", logger="g", exception="e", left_out=1, time_="u"))
    assert found["message"] == "said"
    assert [found[n] for n in ("time_", "level_", "logger_", "exception_", "left_out_")] == [
        "t", "l", "g", "e", 1
    ]  # fmt: skip
    assert found["time__"] == "u"


def test_hostile_text_reads_back_as_it_was_but_for_what_utf_8_does_not_have() -> None:
    found = read(line_of("%s", EVIL, name_of_it=EVIL, nested={EVIL: [EVIL]}))
    whole = EVIL.replace("\ud800", "\\ud800")
    assert found["message"] == found["name_of_it"] == whole


@pytest.mark.parametrize(
    "value",
    [
        Rude(),
        {("a", 1): Rude()},
        {1, 2},
        b"\xff",
        10**40,
        pytest.param(10**5000, id="huge"),
        float("nan"),
        float("inf"),
        object,
        1j,
        ...,
    ],
)
def test_whatever_an_extra_is_there_is_a_line(value: Any) -> None:
    assert "odd" in read(line_of(odd=value))


def test_a_value_that_holds_itself_or_is_nested_without_end_is_shortened() -> None:
    loop: list[Any] = []
    loop.append(loop)
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    line = line_of(loop=loop, deep=deep)
    assert len(line) < 5_000
    read(line)
    while deep:
        deep = deep[0]


@pytest.mark.parametrize(
    ("message", "args"),
    [("%d", ("x",)), ("%s %s", ("x",)), ("%s", (Rude(),)), (Rude(), ()), ("%(a)s", ({},))],
)
def test_a_message_that_cannot_be_formatted_is_still_told(message: object, args: tuple[object, ...]) -> None:
    assert read(line_of(message, *args))["message"]


def test_an_error_has_its_traceback_also_one_whose_text_raises() -> None:
    for error in (ValueError(EVIL), RudeError()):
        with pytest.raises(type(error)) as caught:
            throw(error)
        assert "Traceback" in read(line_of(exc=caught.value))["exception"]
    assert "exception" not in read(line_of())


def test_a_stack_is_told_and_an_exc_info_that_is_none_is_not() -> None:
    record = logging.makeLogRecord({"msg": "m", "exc_info": (None, None, None), "stack_info": "Stack:\n at"})
    found = read(JsonFormatter().format(record))
    assert found["stack"] == "Stack:\n at"
    assert "exception" not in found


def test_a_line_is_bounded_and_says_what_was_left_out() -> None:
    error = ValueError("e" * 10**6)
    line = line_of(
        "m" * 10**6, exc=error, **{f"x{n}": "v" * 10**5 for n in range(100)}, big=list(range(10**5))
    )
    found = read(line)
    assert len(line) < LONGEST
    assert f"({10**6 - MESSAGE_MOST:,} characters left out)" in found["message"]
    assert found["left_out"] == 101 - EXTRAS_MOST
    assert found["x0"].startswith("vvv")


@pytest.mark.parametrize("created", [float("nan"), float("inf"), -1e20, "yesterday", None])
def test_a_time_that_is_none_is_null(created: Any) -> None:
    record = logging.makeLogRecord({"msg": "m", "created": created})
    assert read(JsonFormatter().format(record))["time"] is None


@given(
    st.dictionaries(
        st.text().filter(
            lambda n: n not in vars(logging.makeLogRecord({})) and n not in ("message", "asctime")
        ),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates(),
            lambda inner: (
                st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner)
            ),
        ),
    ),
    st.text(),
)
def test_any_record_is_one_line_of_json(extra: dict[str, Any], message: str) -> None:
    line = line_of(message, **{f"e_{name}": value for name, value in extra.items()})
    assert "\n" not in line
    assert len(read(line)) >= 4


# -- with openoutcry's own records ---------------------------------------------------------------------------


def test_what_a_record_is_about_is_exact_in_json_and_safe_in_any_other_format(caplog) -> None:
    log = logging.getLogger("openoutcry")
    log.warning("%s fails", EVIL, extra=about(subscription=EVIL))
    (record,) = caplog.records
    assert read(JsonFormatter().format(record))["subscription"] == EVIL.replace("\ud800", "\\ud800")
    for text in (
        logging.Formatter("%(subscription)s %(message)s").format(record),
        logging.Formatter("{subscription:>5} {message}", style="{").format(record),
        f"{record.subscription}",
    ):
        assert {c for c in text if is_obeyed(c)} == set()


@pytest.mark.parametrize("how", ["option", "environment"])
def test_a_run_logs_json_to_standard_error(tmp_path: Path, monkeypatch, how: str) -> None:
    code = """
from openoutcry import NO_RETRY, SignalEvent

async def app(bus):
    def fail(event):
        raise ValueError("no account")
    bus.subscribe("signal", fail, name="books", retry=NO_RETRY)
    yield
    await bus.publish(SignalEvent(strategy_name="t", symbol="ES", direction="long", event_id="s-1"))
    await bus.join()
"""
    (tmp_path / "made_json.py").write_text(code, encoding="utf-8")
    options = ["--log-json"] if how == "option" else []
    if how == "environment":
        monkeypatch.setenv("OPENOUTCRY_LOG_JSON", "1")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2] / "src"))
    done = subprocess.run(
        [sys.executable, "-m", "openoutcry", "run", "made_json:app", *options],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [read(line) for line in done.stderr.splitlines() if line.startswith("{")]
    gave_up = next(line for line in lines if "gave up" in line["message"])
    assert {name: gave_up[name] for name in about(subscription="b", event_id="e", event_type="t")} == {
        "subscription": "books",
        "event_id": "s-1",
        "event_type": "signal",
    }
    assert gave_up["correlation_id"] == "s-1"


@pytest.mark.parametrize(
    ("target", "code", "said"),
    [
        ("made_end:nobody", 2, "made_end has no 'nobody'"),
        ("made_end:fails", 1, "made_end:fails failed"),
        ("made_end:leaves", 3, "1 deliveries were left"),
        ("made_end:ends", 1, "no money"),
    ],
)
def test_with_json_all_that_a_run_says_on_standard_error_is_json(
    tmp_path: Path, monkeypatch, target: str, code: int, said: str
) -> None:
    made = """
import asyncio, sys
from openoutcry import SignalEvent

async def fails(bus):
    yield
    raise ValueError("no account")

async def ends(bus):
    yield
    sys.exit("no money")

async def leaves(bus):
    async def wait(event):
        await asyncio.Event().wait()
    bus.subscribe("signal", wait, name="books")
    yield
    await bus.publish(SignalEvent(strategy_name="t", symbol="ES", direction="long"))
"""
    (tmp_path / "made_end.py").write_text(made, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2] / "src"))
    done = subprocess.run(
        [sys.executable, "-m", "openoutcry", "run", target, "--log-json", "--drain-timeout", "0"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    lines = [read(line) for line in done.stderr.splitlines()]
    assert said in lines[-1]["message"]
    assert (
        code != 1
        or target.endswith("ends")
        or any("no account" in line.get("exception", "") for line in lines)
    )


def test_the_options_are_the_same_for_every_command_that_goes_on() -> None:
    for name in ("run", "metrics", "traces"):
        result = CliRunner().invoke(main, [name, "--help"])
        assert "--log-json" in result.output
        assert "--log-level" in result.output
