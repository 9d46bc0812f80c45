"""The HTML report: one file, with charts drawn as SVG, that loads nothing and runs no script."""

from openoutcry.firm.report.page import render, write_report

__all__ = ["render", "write_report"]
