"""How a connection proves who it is: an nkey's seed, and TLS. Files are read when a connection is opened."""

import os
import ssl
from pathlib import Path
from typing import Any

from openoutcry.config import Link
from openoutcry.errors import ConfigError

INSTALL = "pip install 'openoutcry[nats]'"


def options(link: Link) -> dict[str, Any]:
    """Return what `connect` is given to prove who this desk is. Raises `ConfigError` for unreadable files."""
    found: dict[str, Any] = {}
    if link.seed_file is not None:
        found["nkeys_seed_str"] = read_seed(Path(link.seed_file))
    if any(url.startswith("tls://") for url in link.servers) or link.tls_ca is not None:
        found["tls"] = _tls(link)
    return found


def read_seed(path: Path) -> str:
    """Return the seed of a user's nkey from a file that nobody else can read. Raises `ConfigError`."""
    nkeys = _nkeys()
    try:
        mode = path.stat().st_mode
        seed = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeError) as problem:
        raise ConfigError(f"seed_file {str(path)!r} cannot be read: {problem}") from None
    if os.name == "posix" and mode & 0o077:
        raise ConfigError(
            f"seed_file {str(path)!r} can be read by others (mode {mode & 0o777:o}): chmod 600 it"
        )
    try:
        prefix, raw = nkeys.decode_seed(bytearray(seed.encode()))
        is_user = prefix == nkeys.PREFIX_BYTE_USER and nkeys.encode_seed(raw, prefix).decode() == seed
    except Exception:  # noqa: BLE001 (whatever that package thinks of these bytes)
        is_user = False
    if not is_user:
        raise ConfigError(f"seed_file {str(path)!r} holds no seed of a user's nkey: one begins with SU")
    return seed


def make_seed(path: Path) -> str:
    """Write the seed of a new user's nkey into a new file that nobody else can read; return its public key.

    Raises `ConfigError` if there is such a file, or it cannot be written.
    """
    nkeys = _nkeys()
    seed: bytes = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as problem:
        raise ConfigError(f"a seed cannot be written to {str(path)!r}: {problem.strerror}") from None
    with os.fdopen(number, "wb") as file:
        file.write(seed + b"\n")
    return str(nkeys.from_seed(bytearray(seed)).public_key.decode())


def _nkeys() -> Any:
    try:
        import nkeys  # type: ignore[import-untyped,unused-ignore]  # noqa: PLC0415 (an optional part)
    except ImportError:
        raise ConfigError(f"seed_file needs the package nkeys: {INSTALL}") from None
    return nkeys


def _tls(link: Link) -> ssl.SSLContext:
    """Return what certificates are trusted and shown. Raises `ConfigError`."""
    try:
        context = ssl.create_default_context(cafile=None if link.tls_ca is None else str(link.tls_ca))
        if link.tls_cert is not None:
            context.load_cert_chain(str(link.tls_cert), None if link.tls_key is None else str(link.tls_key))
    except OSError as problem:  # an SSLError is one
        names = ", ".join(
            f"{name} {str(path)!r}"
            for name in ("tls_ca", "tls_cert", "tls_key")
            if (path := getattr(link, name))
        )
        raise ConfigError(f"{names}: no certificates can be read there: {problem}") from None
    return context
