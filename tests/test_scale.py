"""The benchmark of how costs grow: its fit, its verdicts, its charts, and that every curve can be measured."""

import json
from pathlib import Path

import pytest
from benchmarks import scale

LINEAR = scale.Curve("get_status", "linear", (8, 100, 500), "subscription")
CONSTANT = scale.Curve("a tick, others idle", "constant", (1, 100, 500), "idle subscription")


def measured(curve: scale.Curve, *costs: float) -> scale.Measured:
    return scale.Measured(curve, dict(zip(curve.sizes, costs, strict=True)))


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_the_exponent_is_the_slope_of_the_logarithms(power: float) -> None:
    points = [(size, 3.0 * size**power) for size in (8, 32, 125, 500)]
    assert scale.exponent(points) == pytest.approx(power, abs=1e-9)


def test_the_growth_is_that_of_the_larger_sizes() -> None:
    curve = LINEAR._replace(sizes=(1, 8, 32, 125, 500))
    assert measured(curve, 100.0, 100.0, 100.0, 400.0, 1_600.0).growth == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(
    ("curve", "costs", "verdict"),
    [
        (LINEAR, (8.0, 100.0, 500.0), "linear"),
        (LINEAR, (8.0, 50.0, 100.0), "linear"),
        (LINEAR, (8.0, 1_250.0, 31_250.0), "WORSE THAN LINEAR"),
        (LINEAR._replace(most=0.9), (8.0, 100.0, 500.0), "too much"),
        (CONSTANT, (10.0, 10.5, 10.9), "constant"),
        (CONSTANT, (10.0, 11.0, 15.0), "GROWS"),
    ],
)
def test_a_curve_grows_as_it_may_or_not(curve: scale.Curve, costs: tuple[float, ...], verdict: str) -> None:
    found = measured(curve, *costs)
    assert found.verdict == verdict
    assert found.is_good == (verdict in ("linear", "constant"))
    assert verdict in scale.table([found])


def test_a_curve_that_could_not_be_measured_says_why() -> None:
    found = scale.Measured(LINEAR, error="8: no room")
    assert not found.is_good
    assert "failed: 8: no room" in scale.table([found])
    assert json.loads(scale.record([found]))[0]["error"] == "8: no room"


def test_a_chart_has_a_point_for_each_size_and_shows_a_curve_that_is_too_steep_in_another_colour() -> None:
    good, bad = measured(LINEAR, 8.0, 100.0, 500.0), measured(LINEAR, 8.0, 1_250.0, 31_250.0)
    assert scale.chart(good).count("<circle") == 3
    assert scale.chart(good).replace("#0b7285", "") != scale.chart(good)
    assert "#c92a2a" in scale.chart(bad)
    assert scale.page([good, bad]).count("<svg") == 2


def test_every_curve_has_a_name_of_its_own_and_at_least_three_sizes() -> None:
    names = [curve.name for curve in (*scale.CURVES, *scale.JOURNAL)]
    assert len(names) == len(set(names))
    assert all(len(curve.sizes) >= 3 and list(curve.sizes) == sorted(curve.sizes) for curve in scale.CURVES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "("], "not a regular expression"),
        (["--folder", "/no/such/folder"], "must be a folder that exists"),
        (["--quick", "--full"], "not allowed with argument"),
    ],
)
def test_an_option_that_cannot_be_used_is_a_clear_error(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        scale.main(arguments)
    assert message in capsys.readouterr().err


def test_no_curve_of_that_name_is_a_clear_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert scale.main(["--only", "no such curve"]) == 2
    assert "no curve has such a name" in capsys.readouterr().err


def test_every_curve_has_somebody_who_measures_it() -> None:
    (line,) = scale.child("scale_lines.py", "--names")
    assert sorted(json.loads(line)) == sorted(curve.name for curve in scale.CURVES)


@pytest.mark.parametrize(
    "name", ["a journaled event at a time, others idle", "a round on a tick", "memory of what waits"]
)
def test_a_curve_is_measured_at_a_size_in_a_process_of_its_own(name: str, tmp_path: Path) -> None:
    (curve,) = (one for one in scale.CURVES if one.name == name)
    (found,) = scale.measure([curve._replace(sizes=(2,))], 1, 0.0, tmp_path)
    assert found.error == ""
    assert found.costs.keys() == {2}


def test_a_journal_is_measured_at_each_size(tmp_path: Path) -> None:
    found = scale.measure_journal(scale.JOURNAL, (1, 3), tmp_path)
    assert [one.error for one in found] == [""] * len(scale.JOURNAL)
    assert all(one.costs.keys() == {1, 3} and min(one.costs.values()) > 0 for one in found)
    assert list(tmp_path.iterdir()) == []


def test_a_run_writes_its_figures_and_its_charts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = scale.main(["--quick", "--only", "^metrics$", "--folder", str(tmp_path), "--out", str(tmp_path)])
    said = capsys.readouterr().out
    assert status == ("1 of 1 curves grow as they may" not in said)
    (curve,) = json.loads((tmp_path / "scale.json").read_text(encoding="utf-8"))
    assert set(curve["costs"]) == {"8", "125", "500"}
    assert (tmp_path / "scale.html").read_text(encoding="utf-8").count("<svg") == 1
