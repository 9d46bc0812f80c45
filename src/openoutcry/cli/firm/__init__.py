"""The commands on a firm of several desks: they ask servers, running desks, or desks' journals."""

from openoutcry.cli.firm.group import firm

__all__ = ["firm"]
