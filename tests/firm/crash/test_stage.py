import io
from dataclasses import replace

from rich.console import Console

from openoutcry.firm.crash.autopsy import InFlight
from openoutcry.firm.crash.plan import PLACES, Kill
from openoutcry.firm.crash.stage import PlainStage, RichStage, stage_for
from openoutcry.firm.crash.supervisor import Death
from openoutcry.firm.crash.words import Word

DAY = Word(at="day", number=30, date="2000-04-12", equity=9_935_600_000, fills=22)
DEATH = Death(
    1, Kill("asked", 30), "buy 31,139 AAPL", DAY, InFlight(unsent=0, working=1, unheard=0, events=1_234)
)
BACK = Word(at="back", number=30, date="2000-04-12", loaded=4_321, remembered=210, recovered=33, took_s=0.69)


def perform(stage):
    """Let a stage show a short run."""
    with stage:
        stage.begins("A firm")
        stage.day(DAY)
        stage.died(DEATH)
        stage.back(BACK)
        stage.ends("all is well")


def test_plain_lines_tell_how_it_died_and_what_it_took_to_come_back():
    lines = []
    perform(PlainStage(100, echo=lines.append))
    told = "\n".join(lines)
    assert f"2000-04-12  day    31     KILLED {PLACES['asked']}: buy 31,139 AAPL" in told
    assert "orders in flight: 1 with the broker" in told
    assert (
        "back after 0.69 s: 4,321 events in saved states, 210 remembered on top, 33 handed out again" in told
    )
    assert lines[0] == "\nA firm"
    assert lines[-1] == "  all is well"


def drawn(stage):
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(stage._draw())
    return console.export_text()


def test_the_timeline_has_a_cross_where_the_firm_died(monkeypatch):
    stage = RichStage(100)
    monkeypatch.setattr(stage, "_show", lambda: None)
    stage.begins("A firm")
    stage.day(DAY)
    stage.died(DEATH)
    dead = drawn(stage)
    assert "dead" in dead
    bar = next(line for line in dead.splitlines() if "✕" in line).strip()
    assert bar.index("✕") == 30 * len(bar) // 100
    stage.back(BACK)
    alive = drawn(stage)
    assert "dead" not in alive
    assert "4,321 events in saved states" in alive
    stage.ends("all is well")
    assert "✓ A firm  all is well" in drawn(stage)


def test_on_a_small_terminal_the_newest_deaths_are_shown_and_how_many_there_were_before(monkeypatch):
    stage = RichStage(100)
    monkeypatch.setattr(stage, "_show", lambda: None)
    monkeypatch.setattr(stage, "_height", lambda: 9)
    stage.begins("A firm")
    for number in range(1, 6):
        stage.died(replace(DEATH, number=number, what=f"order {number}"))
        stage.back(BACK)
    lines = drawn(stage).splitlines()
    assert len(lines) <= 9
    assert "✕ 4 before" in lines[3]
    assert "order 5" in lines[4]
    assert "back after 0.69 s" in lines[6]


def test_who_comes_back_after_two_deaths_in_a_row_comes_back_after_the_second(monkeypatch):
    stage = RichStage(100)
    monkeypatch.setattr(stage, "_show", lambda: None)
    stage.begins("A firm")
    for what in ("order 1", "order 2"):
        stage.died(replace(DEATH, what=what))
    stage.back(BACK)
    told = drawn(stage)
    assert told.index("order 2") < told.index("back after 0.69 s")


def test_the_timeline_is_drawn_on_a_terminal(capsys):
    perform(RichStage(100))
    assert "all is well" in capsys.readouterr().out


def test_a_pipe_gets_plain_lines():
    assert isinstance(stage_for(100, plain=False), PlainStage)
    assert isinstance(stage_for(100, plain=True), PlainStage)


def test_orders_in_flight_are_told_in_words():
    assert InFlight(unsent=0, working=0, unheard=0, events=9).in_words == "none"
    assert InFlight(1, 2, 3, 9).in_words == "1 not sent, 2 with the broker, 3 filled unheard"
    assert InFlight(1, 2, 3, 9).count == 6
