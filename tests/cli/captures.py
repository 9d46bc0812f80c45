"""What `openoutcry top` and `status` show of some fixed pulses, at two sizes of a terminal.

python tests/cli/captures.py        # writes tests/cli/snapshots anew: look at what has changed
"""

import dataclasses
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from openoutcry.cli.watching.look import Look, RoundsLook, Times
from openoutcry.cli.watching.paint import written
from openoutcry.cli.watching.view import view
from openoutcry.observers.pulse import (
    Cell,
    HaltRow,
    Heard,
    JournalRow,
    OpenRound,
    Pulse,
    RoundRow,
    Shape,
    SubRow,
    SubShape,
)
from openoutcry.observers.reading import Rates

SNAPSHOTS = Path(__file__).with_name("snapshots")
SIZES = ((80, 24), (150, 45))
MS, S = 1_000_000, 1_000_000_000
NOW, WALL = 10_000 * S, 1_764_000_000 * S
STRATEGIES = [f"strategy_{number:02}" for number in range(1, 15)]
NAMES = [
    *STRATEGIES,
    "market_data",
    "cio",
    "risk",
    "compliance",
    "execution",
    "portfolio",
    "llm_research_of_macro_events",
    "審査 desk",
]


def a_row(index: int, **given: Any) -> SubRow:
    return replace(SubRow(index, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, "", "idle", 0, 0, 0, []), **given)


def a_pulse(rows: list[SubRow], **given: Any) -> Pulse:
    plain: dict[str, Any] = {
        **dict.fromkeys(Pulse.__struct_fields__, 0),
        **{name: {} for name in ("refused", "unheard", "dead_elsewhere", "rounds_released")},
        **{name: [] for name in ("halts", "findings", "flows")},
        "session": "s",
        "shape": 1,
        "wall_ns": WALL,
        "now_ns": NOW,
        "state": "running",
        "level": "normal",
        "capacity": 20_000,
        "heard": None,
        "link": None,
        "journal": JournalRow("firm.db", 812_394, 1, 812_390, 0, 1, 1, "", "process", 9, 9, 1, 1, 0),
        "blocked": "",
        "ledger_balances": True,
        "health": "unknown",
        "published": 812_394,
        "rows": rows,
    }
    return Pulse(**{**plain, **given})


def a_shape(names: list[str]) -> Shape:
    subscriptions = [SubShape(name, ["signal"], {}, True, True, False, 1, 5.0, 10_000, {}) for name in names]
    return Shape(1, "s", "firm", 4711, "1.0", WALL - 7_300 * S, [], None, S, S, names, [], subscriptions)


def at_work(index: int, name: str) -> tuple[SubRow, Rates, Times]:
    row = a_row(index, accepted=40_000, handled=40_000 + index, state="busy" if index % 3 == 0 else "idle")
    us = 1_000 * (index + 1)
    return row, Rates(56.0, 56.0), Times(3.1 * us, 41.5 * us, 17.0 * us, 96.0 * us)


def a_look(names: list[str], changed: dict[str, dict[str, Any]], **given: Any) -> Look:
    rows, per_s, times = [], {}, {}
    for index, name in enumerate(names):
        row, per_s[name], times[name] = at_work(index, name)
        its = dict(changed.get(name, {}))
        if "error" in its:
            times[name] = dataclasses.replace(times[name], last_error=its.pop("error"))
        per_s[name] = its.pop("per_s", per_s[name])
        rows.append(replace(row, **its))
    rounds = given.pop("rounds", RoundsLook())
    extra = {name: given.pop(name) for name in ("silent", "age_s", "notes") if name in given}
    return Look(Path("firm.db"), a_shape(names), a_pulse(rows, **given), None, per_s, times, rounds, **extra)


def rounds() -> RoundsLook:
    voted: Cell = ["voted", 300 * MS, "long", 0.8, "AAPL"]
    four: dict[str, Cell] = {"strategy_01": voted, "strategy_02": voted, "strategy_03": voted}
    late = {**four, "llm_research_of_macro_events": ["late", 312 * MS]}
    none = {**four, "llm_research_of_macro_events": ["missing", None], "strategy_02": ["missing", None]}
    ended = [
        RoundRow(1_204, "AAPL-2025-11-24", WALL, 5 * S, "expired", False, "time-out", none),
        RoundRow(1_203, "IBM-2025-11-24", WALL, 2 * S, "quorate", True, "quorum", late),
        RoundRow(1_202, "ORCL-2025-11-24", WALL, 2 * S, "quorate", True, "quorum", late),
        RoundRow(1_201, "MSFT-2025-11-24", WALL, 340 * MS, "complete", True, "all", four),
    ]
    waits = ["llm_research_of_macro_events", "strategy_03"]
    opened = OpenRound(
        "GE-2025-11-24", NOW - 3 * S, WALL - 3 * S, waits, ["strategy_01"], [], 2, NOW, NOW + S, True
    )
    return RoundsLook([opened], ended)


def looks() -> dict[str, Look]:
    """Return the fixed looks by name."""
    ended = {"rounds_released": {"complete": 1_180, "quorate": 21, "expired": 3}, "rounds_open": 1}
    failing = {
        "strategy_02": {
            "errors": 80, "handled": 20, "error_streak": 4, "dead": 80, "error": "ValueError: no price for AAPL",
        },
        "strategy_07": {
            "errors": 82, "handled": 18, "error_streak": 1, "retries": 210, "error": "KeyError: 'close'",
        },
        "llm_research_of_macro_events": {
            "state": "stalled", "in_flight": 1, "busy_since_ns": NOW - 47 * S, "call_event": "news",
            "lag": 614, "waiting": 614, "oldest_ns": NOW - 46 * S, "timeouts": 3, "per_s": Rates(9.0, 0.0),
        },
    }  # fmt: skip
    halts = [HaltRow("k-1", "firm", "drawdown of 5 % in an hour", "ann", WALL - 72 * S)]
    heard = Heard("k-1", True, "firm", NOW - 72 * S, 21, 20, 3 * MS, ["llm_research_of_macro_events"], [])
    quiet = {name: {"per_s": Rates(), "state": "idle"} for name in NAMES[4:]}
    return {
        "well": a_look(NAMES, {}),
        "quiet": a_look([*NAMES, *(f"agent_{number:03}" for number in range(60))],
                        {**quiet, **{f"agent_{number:03}": {"per_s": Rates(), "state": "idle"} for number in range(60)}}),
        "trouble": a_look(
            NAMES, failing, halts=halts, halts_count=1, heard=heard, rounds=rounds(), queue=614,
            refused={"rate": 12}, dead_elsewhere={"old_desk": 3},
            notes=(("kill lane", "proven 4 s ago"),), **ended,
        ),
        "silent": a_look(NAMES, {}, silent="its process 4711 is stopped (SIGSTOP, or a debugger)", age_s=12.0),
    }  # fmt: skip


def captures() -> dict[str, str]:
    """Return what is shown, by the name of its file."""
    found = {}
    for name, look in looks().items():
        for width, height in SIZES:
            for verb in ("top", "status"):
                lines = view(look, width, height, cut=verb == "top", seen=set())
                shown = written(lines, colour=False)
                if shown != found.get(f"top-{name}-{width}x{height}.txt", "").splitlines():
                    found[f"{verb}-{name}-{width}x{height}.txt"] = "\n".join(shown) + "\n"
    return found


if __name__ == "__main__":
    for old in SNAPSHOTS.glob("*.txt"):
        old.unlink()
    for name, text in captures().items():
        (SNAPSHOTS / name).write_text(text, encoding="utf-8")
