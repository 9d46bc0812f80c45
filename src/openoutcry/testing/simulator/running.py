"""Running seeds: many of them, or one again with its trace."""

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from openoutcry.testing.simulator.faults import Faults
from openoutcry.testing.simulator.house import house
from openoutcry.testing.simulator.lives import MakeFirm, Seed, Setting
from openoutcry.testing.simulator.trace import Trace


class SimulationFailed(AssertionError):
    """A seed has found something. The message has the finding, the end of the trace, and how to repeat it.

    Attributes:
        seed: The seed.
        found: The finding.
        trace: What happened.

    """

    def __init__(self, seed: int, found: BaseException, trace: Trace, command: str) -> None:
        self.seed = seed
        self.found = found
        self.trace = trace
        lines = "\n".join(f"  {line}" for line in trace.lines)
        cut = trace.count - len(trace.lines)
        left_out = f", but for the first {cut} lines" if cut else ""
        head = f"the trace (life:step, virtual seconds, what){left_out}:"
        super().__init__(
            f"seed {seed}: {type(found).__name__}: {found}\n{head}\n{lines}\n"
            f"run it again, with its whole trace:\n  {command}"
        )


@dataclass(frozen=True, slots=True)
class Simulated:
    """The record of a seed that found nothing.

    Attributes:
        seed: The seed.
        digest: The hash of its trace: the same each time the seed is run.
        lines: How many lines the trace has.

    """

    seed: int
    digest: str
    lines: int


def simulate(
    make_firm: MakeFirm | None = None,
    *,
    seeds: Iterable[int] = range(100),
    faults: Faults | None = None,
    options: Mapping[str, Any] | None = None,
    life_s: float = 10.0,
    check_every: int = 8,
    shuffles: bool = True,
    keep_trace: bool = False,
) -> list[Simulated]:
    """Run a firm on a real bus through many faults, and check that the bus keeps its promises.

    A seed is up to `faults.crashes + 1` lives of one bus over one disk, in virtual time. It decides in which
    order tasks run, what goes wrong with handlers and the journal, and where the process dies. In its last
    life nothing goes wrong any more, and everything must drain. The invariants are checked after every step;
    `docs/simulator.md` lists them.

    Args:
        make_firm: Called with the bus and a `Chance` at the beginning of each life, before the bus starts.
            Subscribes handlers, under the same names each time, and returns publishers: coroutine functions
            without arguments, each of which runs as a task of its own. None is the house firm.
        seeds: The seeds to run.
        faults: What goes wrong; by default a bit of everything.
        options: Arguments of `EventBus`. With `persistence_config` it has a journal, which the simulator
            makes. None: each seed chooses. `check_events` is `always` unless given.
        life_s: Publishers that have not ended after so many virtual seconds are cancelled.
        check_every: Ledger and bounds are checked after so many steps, all else after every step.
        shuffles: Whether tasks that are ready in the same turn of the loop run in a seeded order.
        keep_trace: Keep every line of the trace of a failing seed, not only the end.

    Returns:
        A record per seed, with the hash of its trace.

    Raises:
        SimulationFailed: A seed has found something.

    """
    setting = Setting(
        make_firm=house if make_firm is None else make_firm,
        faults=Faults() if faults is None else faults,
        options=options,
        life_s=life_s,
        check_every=check_every,
        shuffles=shuffles,
    )
    return [run_seed(number, setting, keep_trace=keep_trace) for number in seeds]


def run_seed(
    number: int,
    setting: Setting,
    *,
    keep_trace: bool = False,
    shows: Callable[[str], object] | None = None,
) -> Simulated:
    """Run one seed; `shows` is called with each line of its trace. Raises `SimulationFailed`."""
    seed = Seed(number, setting, keep_trace=keep_trace)
    try:
        seed.run()
    except Exception as found:  # whatever a seed raises is a finding
        raise SimulationFailed(number, found, seed.trace, command_of(number, setting)) from found
    if shows is not None:
        for line in seed.trace.lines:
            shows(line)
    return Simulated(number, seed.trace.digest, seed.trace.count)


def command_of(number: int, setting: Setting) -> str:
    """Return the command that runs a seed again."""
    words = [f"python -m openoutcry.testing.simulator --seed {number}"]
    firm: Any = setting.make_firm
    if firm is not house:
        words.append(f"--firm {firm.__module__}:{firm.__qualname__}")
    if setting.faults != Faults():
        words.append(f"--faults {setting.faults.to_text()}")
    if setting.life_s != 10.0:
        words.append(f"--life {setting.life_s:g}")
    if setting.check_every != 8:
        words.append(f"--check-every {setting.check_every}")
    if not setting.shuffles:
        words.append("--no-shuffle")
    if setting.options is not None and firm is not house:
        words.append("  (with the same options)")
    return " ".join(words)


def say(line: str) -> None:
    """Print a line for the user."""
    sys.stdout.write(line + "\n")
