import io

from rich.console import Console

from openoutcry.firm.crash.autopsy import InFlight
from openoutcry.firm.crash.plan import PLACES, Kill
from openoutcry.firm.crash.words import Word
from openoutcry.firm.desks.stage import PlainDesks, RichDesks, desk_stage_for
from openoutcry.firm.desks.supervisor import NOBODY, DeskDeath
from openoutcry.firm.desks.words import DESKS, NODE, STREET

DAY = Word(at="day", number=30, date="2000-04-12", equity=9_935_600_000, fills=22)
BACK = Word(at="back", number=30, date="2000-04-12", loaded=4_321, remembered=210, recovered=33, took_s=0.69)
OF_STREET = DeskDeath(
    1, Kill("asked", 30), "buy 5 AAPL", DAY, InFlight(unsent=0, working=1, unheard=0, events=9), STREET
)
OF_NODE = DeskDeath(2, Kill("anywhen", 40), "", DAY, NOBODY, NODE, 1_200)


def drawn(stage):
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(stage._draw())
    return console.export_text()


def test_plain_lines_name_the_desk_that_died_and_the_node():
    lines = []
    stage = PlainDesks(100, echo=lines.append)
    with stage:
        stage.begins("Three desks")
        stage.desk_is(STREET, up=False, made=0)
        stage.died(OF_STREET)
        stage.back(BACK)
        stage.died(OF_NODE)
    told = "\n".join(lines)
    assert f"KILLED street: {PLACES['asked']}: buy 5 AAPL" in told
    assert "orders in flight: 1 with the broker" in told
    assert "back after 0.69 s" in told
    assert "KILLED node: gone for 1.2 s; meanwhile journals keep what waits" in told


def test_each_desk_and_the_node_have_a_lamp_that_goes_out_and_on_again(monkeypatch):
    stage = RichDesks(100)
    monkeypatch.setattr(stage, "_show", lambda: None)
    stage.begins("Three desks")
    assert "○" not in drawn(stage), "nothing of the desks before they are there"
    stage.desk_is(NODE, up=True, made=0)
    assert drawn(stage).count("○") == len(DESKS)
    for who in reversed(list(DESKS)):
        stage.desk_is(who, up=True, made=1_234)
    stage.day(DAY)
    text = drawn(stage)
    assert "killed" not in text
    assert text.count("●") == 1 + len(DESKS) + 1
    assert text.count("1,234 events") == len(DESKS)
    places = [text.index(f"● {who}") for who in (*DESKS, NODE)]
    assert places == sorted(places), "in the same order, whoever was there first"
    stage.desk_is(STREET, up=False, made=0)
    stage.died(OF_STREET)
    assert "✕ street" in drawn(stage)
    assert "killed" in drawn(stage)
    stage.desk_is(STREET, up=True, made=1_300)
    stage.back(BACK)
    assert "● street" in drawn(stage)
    assert "4,321 events in saved states" in drawn(stage)


def test_a_node_that_died_and_is_back_takes_no_return_of_a_desk_away(monkeypatch):
    stage = RichDesks(100)
    monkeypatch.setattr(stage, "_show", lambda: None)
    stage.begins("Three desks")
    stage.desk_is(STREET, up=False, made=0)
    stage.died(OF_STREET)
    stage.died(OF_NODE)
    stage.desk_is(STREET, up=True, made=0)
    stage.back(BACK)
    lines = drawn(stage).splitlines()
    assert "back after" in lines[next(i for i, line in enumerate(lines) if "in flight" in line) + 1]


def test_without_a_terminal_the_lines_are_plain():
    assert isinstance(desk_stage_for(10, plain=False), PlainDesks)
