"""`openoutcry firm`: gathers the commands on a firm of several desks."""

import click

from openoutcry.cli.firm.acting import drop, release, trim
from openoutcry.cli.firm.auditing import audit
from openoutcry.cli.firm.checking import doctor
from openoutcry.cli.firm.permitting import permissions
from openoutcry.cli.firm.watching import lag, status


@click.group()
def firm() -> None:
    """See to a firm of several desks."""


firm.add_command(status)
firm.add_command(lag)
firm.add_command(audit)
firm.add_command(doctor)
firm.add_command(release)
firm.add_command(drop)
firm.add_command(trim)
firm.add_command(permissions)
