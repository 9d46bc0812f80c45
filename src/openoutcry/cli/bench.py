"""`openoutcry bench`: runs the benchmarks of a checkout of the repository."""

import subprocess
import sys
from pathlib import Path

import click

import openoutcry
from openoutcry.cli.mistakes import Mistake

_ENTRY = Path("benchmarks", "run.py")


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def bench(arguments: tuple[str, ...]) -> None:
    """Run the benchmarks, beside what people use today.

    They are in the repository, not in the installed package: run this in a checkout. All arguments are passed
    to the benchmark: openoutcry bench --help
    """
    script = find_benchmarks(Path.cwd())
    sys.exit(subprocess.call([sys.executable, str(script), *arguments]))  # noqa: S603 - our own script


def find_benchmarks(directory: Path) -> Path:
    """Return the benchmarks' entry script, from the checkout around `directory` or around the package.

    Raises `Mistake` if neither is a checkout.
    """
    package = Path(openoutcry.__file__).resolve().parent
    for root in (directory, *directory.parents, package.parent.parent):
        if (root / _ENTRY).is_file() and (root / "src" / "openoutcry").is_dir():
            return root / _ENTRY
    raise Mistake(
        "the benchmarks are not part of the installed package: clone the repository, and run "
        "`openoutcry bench` in it"
    )
