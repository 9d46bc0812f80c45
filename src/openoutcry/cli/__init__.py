"""The command line: `openoutcry demo`, `openoutcry run MODULE:APP`, `openoutcry bench`."""

from openoutcry.cli.app import main

__all__ = ["main"]
