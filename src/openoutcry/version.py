"""The version of the package, here and nowhere else: builds, `openoutcry --version` and users read it."""

__version__ = "0.1.0"
