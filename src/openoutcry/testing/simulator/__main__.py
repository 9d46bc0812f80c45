"""Run seeds from the command line.

python -m openoutcry.testing.simulator --seeds 2000                           the house firm
python -m openoutcry.testing.simulator --firm my_firm.sim:make_firm           your own
python -m openoutcry.testing.simulator --seed 17                              one seed, with its whole trace
"""

import argparse
import importlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from openoutcry.errors import ConfigError
from openoutcry.testing.simulator.faults import Faults
from openoutcry.testing.simulator.house import house
from openoutcry.testing.simulator.lives import MakeFirm, Setting
from openoutcry.testing.simulator.running import SimulationFailed, run_seed, say


def firm_named(name: str) -> MakeFirm:
    """Return a firm by `module:function`. Raises `ConfigError`."""
    module_name, _, function_name = name.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"there is no firm {name!r} ({error}); name it like my_firm.sim:make_firm"
        ) from error
    made: MakeFirm = found
    return made


def parser_of(program: str, description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the arguments that set up a simulation."""
    parser = argparse.ArgumentParser(
        prog=program, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--firm", help="module:function of the firm (default: the house firm)")
    parser.add_argument("--faults", default="", help="such as slow=0.5,crashes=1, or none")
    parser.add_argument(
        "--life", type=float, default=10.0, help="virtual seconds for the publishers of a life"
    )
    parser.add_argument("--check-every", type=int, default=8, help="steps from check to check of the ledger")
    parser.add_argument("--no-shuffle", action="store_true", help="run tasks in the order of plain asyncio")
    parser.add_argument("--seed", type=int, help="only this one, with its whole trace")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    return parser


def setting_of(asked: argparse.Namespace) -> Setting:
    """Return the setting of the lives from the arguments. Raises `ConfigError`."""
    return Setting(
        make_firm=house if asked.firm is None else firm_named(asked.firm),
        faults=Faults.from_text(asked.faults),
        options=None,
        life_s=asked.life,
        check_every=asked.check_every,
        shuffles=not asked.no_shuffle,
    )


def run_one(number: int, setting: Setting) -> int:
    """Run one seed and show its whole trace. Return 1 if it has found something."""
    seen: list[str] = []
    try:
        done = run_seed(number, setting, keep_trace=True, shows=seen.append)
    except SimulationFailed as failed:
        say(str(failed))
        return 1
    for line in seen:
        say(line)
    say(f"seed {number} found nothing: {done.lines} lines, trace {done.digest}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for. Return 1 if something was found, 2 for a usage error."""
    parser = parser_of("python -m openoutcry.testing.simulator", __doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many (default 100)")
    asked = parser.parse_args(arguments)
    sys.path.insert(0, str(Path.cwd()))
    try:
        setting = setting_of(asked)
    except ConfigError as error:
        say(str(error))
        return 2
    if asked.seed is not None:
        return run_one(asked.seed, setting)
    began_s, found, number = time.monotonic(), 0, asked.first - 1
    for number in range(asked.first, asked.first + asked.seeds):
        try:
            run_seed(number, setting)
        except SimulationFailed as failed:
            found += 1
            say(str(failed))
            if found == 3:
                break
    say(f"{number + 1 - asked.first} seeds in {time.monotonic() - began_s:.1f} s: {found} found something")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
