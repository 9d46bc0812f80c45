"""`openoutcry firm permissions`: the servers' configuration for a firm, from a file that names its desks."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from openoutcry.cli.console import say
from openoutcry.cli.mistakes import Mistake
from openoutcry.config import check_names
from openoutcry.config.bus import read_toml
from openoutcry.config.link import NAME
from openoutcry.errors import ConfigError
from openoutcry.links.nats.permissions import DeskKey, FirmPermissions, server_config

_TEXTS: Final = ("admin", "system", "store", "tls_cert", "tls_key", "tls_ca")
_KNOWN: Final = {"firm", "desks", "releasers", "trimmers", *_TEXTS}


@click.command()
@click.argument(
    "file", metavar="[FIRM.toml]", required=False, type=click.Path(path_type=Path, dir_okay=False)
)
@click.option(
    "--make-key",
    "key",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Instead: write a new key's seed to this file, for seed_file, and print its public key.",
)
def permissions(file: Path | None, key: Path | None) -> None:
    """Print the servers' configuration for a firm.

    FIRM.toml names the firm, its desks with their public keys, and who may release kill switches and trim.
    What is printed is complete but for each node's own name, address and cluster: include it from their
    configuration. A desk can publish under its own name alone, and cannot delete, purge or edit.
    """
    if (file is None) == (key is None):
        raise Mistake("name FIRM.toml, or give --make-key FILE, and not both")
    if key is not None:
        say(importlib.import_module("openoutcry.links.nats.access").make_seed(key))
        return
    assert file is not None
    click.echo(config_for(file), nl=False)


def config_for(file: Path) -> str:
    """Return the configuration for FIRM.toml. Raises `ConfigError` with the file's name for what is wrong."""
    data = read_toml(file)
    try:
        return server_config(_firm(data))
    except ConfigError as problem:
        raise ConfigError(f"{file}: {problem}") from problem


def _firm(data: dict[str, Any]) -> FirmPermissions:
    _refuse_unknown("the file", data, _KNOWN)
    firm = data.get("firm")
    _check_name("firm", firm)
    desks = data.get("desks")
    if not isinstance(desks, dict) or not desks:
        raise ConfigError('there are no desks; give each a table: [desks.street] with key = "U..."')
    special = {what: check_names(what, data.get(what, ())) for what in ("releasers", "trimmers")}
    for what, names in special.items():
        if strangers := sorted(names - desks.keys()):
            raise ConfigError(f"{what} names {strangers}, who have no table; desks are {sorted(desks)}")
    keys = {name: _desk(name, of, special) for name, of in desks.items()}
    plain: dict[str, Any] = {"firm": firm, "desks": keys}
    plain |= {name: data[name] for name in _TEXTS if name in data}
    try:
        return msgspec.convert(plain, FirmPermissions)
    except msgspec.ValidationError as problem:
        raise ConfigError(f"{problem}; it must be text") from problem


def _desk(name: str, of: object, special: Mapping[str, frozenset[str]]) -> DeskKey:
    _check_name("a desk", name)
    if not isinstance(of, dict):
        raise ConfigError(f"desks.{name} is {of!r}; it must be a table: [desks.{name}]")
    _refuse_unknown(f"[desks.{name}]", of, {"key"})
    key = of.get("key")
    if not isinstance(key, str):
        raise ConfigError(
            f"[desks.{name}] has no key; give its public key: openoutcry firm permissions --make-key FILE "
            "makes one and prints it"
        )
    return DeskKey(key=key, releases=name in special["releasers"], trims=name in special["trimmers"])


def _check_name(what: str, name: object) -> None:
    if not (isinstance(name, str) and NAME.fullmatch(name)):
        raise ConfigError(f"{what} is called {name!r}; it must be 1 to 48 of a-z, 0-9, - and _")


def _refuse_unknown(where: str, data: Mapping[str, Any], known: set[str]) -> None:
    if unknown := sorted(data.keys() - known):
        raise ConfigError(f"{where} has unknown settings {unknown}; known are {sorted(known)}")
