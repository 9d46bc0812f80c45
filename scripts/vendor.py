"""Fetch the page's vendored files anew from npm, and hold them against VENDOR.toml.

    python -m scripts.vendor [--check]

Every package is fetched in the version that VENDOR.toml names (`npm pack`; nothing of it is run). Each file
is held against its SHA-256 in the package, and only then written. With --check nothing is fetched: the files
here are held against the same sums. To take a newer version, write it down with the sums that a failed run
prints. Ends with 1 at what is wrong.
"""

import argparse
import hashlib
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

ROOT: Final = Path(__file__).resolve().parent.parent
VENDOR: Final = ROOT / "src" / "openoutcry" / "dashboard" / "static" / "vendor"
LIST: Final = "VENDOR.toml"


@dataclass(frozen=True)
class Vendored:
    """One file: its name here, its place and SHA-256 in the npm package, and what is replaced in it."""

    package: str
    version: str
    name: str
    source: str
    sha256: str
    replaced: dict[str, str]

    def changed(self, content: bytes) -> bytes:
        """Return a file of the package as it lies here. Ends with 1 where it differs."""
        return self._exchange(content, self.replaced)

    def original(self, content: bytes) -> bytes:
        """Return a file that lies here as it is in the package."""
        return self._exchange(content, {there: here for here, there in self.replaced.items()})

    def _exchange(self, content: bytes, pairs: dict[str, str]) -> bytes:
        for old, new in pairs.items():
            if (count := content.count(old.encode())) != 1:
                wrong(f"{self.name} should hold {old!r} once, and holds it {count} times")
            content = content.replace(old.encode(), new.encode())
        return content


def vendored(folder: Path = VENDOR) -> Iterator[Vendored]:
    """Yield what VENDOR.toml lists, licences included."""
    for package in tomllib.loads((folder / LIST).read_text(encoding="utf-8"))["package"]:
        for file in package["file"]:
            yield Vendored(
                package["name"],
                package["version"],
                file["name"],
                file["source"],
                file["sha256"],
                file.get("replaced", {}),
            )


def check(folder: Path = VENDOR) -> list[str]:
    """Return what is wrong with the files here, a sentence each."""
    listed = list(vendored(folder))
    expected = {LIST, *(file.name for file in listed)}
    found = {path.name for path in folder.iterdir()}
    mistakes = [f"{name} is not listed in {LIST}" for name in sorted(found - expected)]
    mistakes += [f"{name} is listed in {LIST} and not here" for name in sorted(expected - found)]
    for file in listed:
        if file.name in found and (mistake := mistake_in(file, (folder / file.name).read_bytes())):
            mistakes.append(mistake)
    return mistakes


def mistake_in(file: Vendored, here: bytes) -> str:
    """Return how a file that lies here differs from the package's, or nothing."""
    if lost := [there for there in file.replaced.values() if here.count(there.encode()) != 1]:
        return f"{file.name} should hold {lost[0]!r} once"
    found = hashlib.sha256(file.original(here)).hexdigest()
    if found == file.sha256:
        return ""
    meant = f"{file.source} of {file.package} {file.version}"
    return f"{file.name} is not {meant}: SHA-256 {found}, not {file.sha256}"


def fetch(folder: Path = VENDOR) -> None:
    """Fetch every package, hold its files against their sums, and write them."""
    listed = list(vendored(folder))
    for package, version in sorted({(file.package, file.version) for file in listed}):
        with tempfile.TemporaryDirectory(prefix="openoutcry-vendor-") as scratch:
            packed = pack(f"{package}@{version}", Path(scratch))
            with tarfile.open(packed) as archive:
                for file in listed:
                    if file.package == package:
                        write(file, archive, folder)
        print(f"ok {package} {version}", flush=True)


def pack(package: str, scratch: Path) -> Path:
    """Return the file that npm publishes of a package."""
    words = ["npm", "pack", "--silent", "--ignore-scripts", package]
    done = subprocess.run(words, cwd=scratch, check=False, capture_output=True, text=True)
    if done.returncode:
        wrong(f"npm could not fetch {package}: {done.stderr.strip()}")
    (packed,) = scratch.glob("*.tgz")
    return packed


def write(file: Vendored, archive: tarfile.TarFile, folder: Path) -> None:
    """Write one file of a package, if it is the one that VENDOR.toml means."""
    member = archive.extractfile(f"package/{file.source}")
    if member is None:
        wrong(f"{file.package} {file.version} has no file {file.source}")
    content = member.read()
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        wrong(f"{file.source} of {file.package} {file.version} has the SHA-256 {found}, not {file.sha256}")
    (folder / file.name).write_bytes(file.changed(content))


def wrong(what: str) -> NoReturn:
    """End with 1."""
    sys.exit(f"vendor: {what}")


def main() -> None:
    """Fetch, unless told not to, and check."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="fetch nothing")
    if not parser.parse_args().check:
        fetch()
    if mistakes := check():
        wrong("; ".join(mistakes))
    print("ok vendored files", flush=True)


if __name__ == "__main__":
    main()
