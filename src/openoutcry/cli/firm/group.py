"""`openoutcry firm`: gathers the commands on a firm of several desks."""

import click

from openoutcry.cli.firm.auditing import audit


@click.group()
def firm() -> None:
    """See to a firm of several desks."""


firm.add_command(audit)
