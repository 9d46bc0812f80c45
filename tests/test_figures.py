"""The figures in README and docs are those of benchmarks/figures.json, which says what commit they are of."""

import re
import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from benchmarks import figures

from openoutcry import __version__

ROOT = Path(__file__).resolve().parent.parent
RATE = "deliveries_per_s"


def row(label: str, *rates: float, case: str = "1 handler") -> dict[str, Any]:
    rounds = [{RATE: rate} for rate in rates]
    return {"measurement": "throughput", "case": case, "label": label, "rounds": rounds}


def recorded(**ratios: float) -> figures.Recorded:
    machine = {
        "implementation": "CPython",
        "python": "3.11",
        "system": "Linux",
        "cores": 2,
        "date": "2030-01-01",
    }
    return figures.Recorded("0123456789abcdef", "fedc", {"machine": machine}, ratios)


@pytest.mark.parametrize("page", figures.PAGES, ids=lambda page: page.name)
def test_a_page_gives_the_figures_that_were_recorded(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "<!-- figures: " in text
    assert figures.rendered(text, figures.load()) == text, "run python benchmarks/figures.py --write"


def test_a_page_names_the_commit_that_its_figures_are_of() -> None:
    commit = figures.load().commit
    assert re.fullmatch("[0-9a-f]{40}", commit)
    for page in figures.PAGES:
        text = page.read_text(encoding="utf-8")
        assert text.count("<!-- figures: ") == text.count(f"Commit `{commit[:10]}`")


def test_the_source_of_the_figures_is_that_of_their_commit() -> None:
    of = figures.load()
    asked = ["git", "-C", str(ROOT), "rev-parse", "--verify", "--quiet", f"{of.commit}:src"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("the commit is not in this clone")
    assert done.stdout.strip() == of.source


def test_a_ratio_is_the_median_of_those_within_the_rounds() -> None:
    results = figures.Results([row("mine", 10.0, 60.0, 30.0), row("other", 100.0, 200.0, 300.0)])
    assert results.ratio("throughput", "1 handler", "mine", "other", RATE) == pytest.approx(0.1)
    assert results.ratio("throughput", "1 handler", "mine", "nobody", RATE) is None


def test_a_figure_that_was_not_measured_is_a_dash_and_no_line_is_left_out() -> None:
    table = figures.beside_peers(recorded())
    assert all(f"| {peer} | - | - | - |" in table for peer in figures.PEERS)


def test_a_line_that_a_peer_wins_stays_and_is_in_bold() -> None:
    table = figures.beside_peers(recorded(**{"pyee, plain: 1 handler": 0.5, "vnpy, plain: 1 handler": 2.0}))
    assert "| pyee, plain | **0.5** | - | - |" in table
    assert "| vnpy, plain | 2 | - | - |" in table


def test_what_stands_between_the_marks_is_written_and_nothing_else() -> None:
    text = "before\n<!-- figures: peers -->\n9,000 times\n<!-- end of figures -->\nafter\n"
    found = figures.rendered(text, recorded())
    assert found.startswith("before\n<!-- figures: peers -->\n|")
    assert found.endswith("<!-- end of figures -->\nafter\n")
    assert "9,000" not in found
    assert figures.rendered(found, recorded()) == found


def test_figures_of_which_nobody_knows_are_an_error() -> None:
    with pytest.raises(figures.FiguresError, match="there are no figures 'mine'"):
        figures.rendered("<!-- figures: mine -->\n<!-- end of figures -->", recorded())


def test_source_that_is_not_committed_has_no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "git", lambda *_: " M src/openoutcry/version.py")
    with pytest.raises(figures.FiguresError, match="commit these first"):
        figures.measure(1)


def test_the_benchmark_says_which_version_it_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    environment: Any = import_module("suite.environment")
    assert environment.version_of_openoutcry() == __version__


def test_a_latency_is_measured_from_when_its_schedule_has_been_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    timing: Any = import_module("measures.timing")
    now_ns = 0

    def slow_clock() -> int:
        nonlocal now_ns
        now_ns += 30_000_000  # making the schedule takes longer than any guess
        return now_ns

    monkeypatch.setattr(timing, "perf_counter_ns", slow_clock)
    due_ns = timing.schedule(3, 1_000)
    assert due_ns[0] >= now_ns + 5_000_000
    assert due_ns[2] - due_ns[0] == 2_000_000
