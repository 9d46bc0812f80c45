"""How the commands on a firm reach its servers: by a settings file, or by options."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from openoutcry.cli.mistakes import Mistake
from openoutcry.config import Link, load_config, load_link
from openoutcry.errors import ConfigError

ONLOOKER: Final = "onlooker"
"""What somebody is called who only looks on, where the settings name no desk."""
_FILE: Final = click.Path(path_type=Path, dir_okay=False)
_OPTIONS: Final = (
    click.option(
        "--config", type=_FILE, metavar="FILE", help="A settings file with [link], such as a desk's."
    ),
    click.option("--firm", metavar="NAME", help="Without --config: the firm's name."),
    click.option(
        "--server", "servers", multiple=True, metavar="URL", help="A node: nats://host:4222. Repeat it."
    ),
    click.option("--seed-file", type=_FILE, metavar="FILE", help="The nkey seed to log in with."),
    click.option("--tls-ca", type=_FILE, metavar="FILE", help="The certificates to trust."),
    click.option(
        "--tls-cert", type=_FILE, metavar="FILE", help="The certificate to show, where servers ask;"
    ),
    click.option("--tls-key", type=_FILE, metavar="FILE", help="and its key."),
)
_LOGIN: Final = ("seed_file", "tls_ca", "tls_cert", "tls_key")


def linked(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options by which a command reaches the servers; `link_of` reads them."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def link_of(given: dict[str, Any]) -> tuple[Link, Path | None]:
    """Take these options from the arguments of a command.

    Returns the settings, and the journal of the desk whose settings file it is, if it names one. Options go
    before the file.
    """
    config: Path | None = given.pop("config")
    firm, servers = given.pop("firm"), given.pop("servers")
    own = {name: value for name in _LOGIN if (value := given.pop(name)) is not None}
    if servers:
        own["servers"] = servers
    if config is None:
        if firm is None:
            raise Mistake("say which firm: --config FILE with its [link], or --firm NAME and --server URL")
        return Link(firm=firm, desk=ONLOOKER, **own), None
    link = load_link(config, ONLOOKER)
    if firm not in (None, link.firm):
        raise Mistake(f"{config} is of the firm {link.firm!r}: leave --firm out, or name another file")
    return _changed(link, own), _journal_of(config)


def _changed(link: Link, own: dict[str, Any]) -> Link:
    plain = {name: getattr(link, name) for name in Link.__slots__}
    return Link(**{**plain, **own})


def _journal_of(config: Path) -> Path | None:
    try:
        persistence = load_config(config).persistence
    except ConfigError:
        return None
    return None if persistence is None else persistence.path
