"""The command line: `openoutcry demo`, `run MODULE:APP`, `bench`, and the commands on a journal."""

from openoutcry.cli.app import main

__all__ = ["main"]
