"""Cut the power of nodes and of a desk: what was accepted at the level `replicated` is there afterwards.

python -m campaigns.firm_power_cut --modes desk,one,two,all,default

    desk      the disk with the journal of the desk that publishes at `replicated` loses its power
    one       so do the disk of that desk and that of one node of three, at once
    two       the disk of that desk and those of two nodes
    all       the disk of that desk and those of all three nodes
    default   the servers sync every two minutes, as they do by default: `replicated` is refused

Each disk is an ext4 in a file, mounted by loop, which takes root. A cut is EXT4_IOC_SHUTDOWN without a flush,
while the process on it stands still: what was not synced is lost.
"""

import argparse
import asyncio
import fcntl
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from campaigns.firm_kit import SHM, Firm, a_firm, a_folder, chosen, report
from campaigns.firm_truth import say

DESKS: Final = ("a", "b", "c")
NODES: Final = 3
SIZE_MIB: Final = 384
EXT4_IOC_SHUTDOWN: Final = 0x8004587D
NO_FLUSH: Final = 2
BETWEEN_S: Final = 4.0
CUT_NODES: Final[Mapping[str, int]] = {"desk": 0, "one": 1, "two": 2, "all": NODES}
MODES: Final = (*CUT_NODES, "default")


class NoDisk(Exception):
    """A file cannot be mounted here."""


def call(*command: str) -> None:
    """Run a command. Raises `NoDisk` with what it has printed."""
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        raise NoDisk(f"{' '.join(command)}: {done.stderr.strip()}")


class Disk:
    """An ext4 in a file, mounted on a folder."""

    def __init__(self, image: Path, folder: Path) -> None:
        self.image, self.folder = image, folder

    def make(self) -> None:
        """Make and mount it. Raises `NoDisk`."""
        self.folder.mkdir(parents=True)
        with self.image.open("wb") as file:
            file.truncate(SIZE_MIB * 2**20)
        call("mkfs.ext4", "-q", "-F", str(self.image))
        self.mount()

    def mount(self) -> None:
        """Mount it. Raises `NoDisk`."""
        call("mount", "-o", "loop", str(self.image), str(self.folder))

    def cut(self) -> None:
        """Lose what was not synced; from now on every call on it fails."""
        number = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(number, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_FLUSH))
        finally:
            os.close(number)

    def remount(self) -> None:
        """Give it power again. Nobody may use it. Raises `NoDisk`."""
        call("umount", str(self.folder))
        self.mount()


@contextmanager
def disks(folders: list[Path]) -> Iterator[list[Disk]]:
    """Disks mounted on these folders. Raises `NoDisk`."""
    images = Path(tempfile.mkdtemp(prefix="openoutcry-disks-", dir=SHM if SHM.is_dir() else None))
    made = [Disk(images / f"{number}.img", folder) for number, folder in enumerate(folders)]
    try:
        for disk in made:
            disk.make()
        yield made
    finally:
        for disk in made:
            subprocess.run(["umount", "-l", str(disk.folder)], check=False, capture_output=True)  # noqa: S603, S607
        shutil.rmtree(images)


async def cut(firm: Firm, desk: Disk, nodes: list[Disk], boot: int) -> None:
    """Cut the power of a desk and some nodes at once, and give it again: the desk's host starts anew."""
    harmed = firm.servers.nodes[: len(nodes)]
    if len(harmed) == NODES:
        firm.nodes_away()
    firm.desks["a"].send(signal.SIGSTOP)
    for node in harmed:
        node.pause()
    for disk in (desk, *nodes):
        disk.cut()
    await firm.kill("a")
    for node in harmed:
        node.kill()
    await asyncio.sleep(1)
    for disk in (desk, *nodes):
        await asyncio.to_thread(disk.remount)
    for node in harmed:
        node.start()
    process = await firm.start("a", boot=boot)
    for node in harmed:
        await asyncio.to_thread(node.wait, 60.0)
    await process.has_told("started")
    await asyncio.sleep(1)
    firm.nodes_back()


async def power_cut(mode: str, cuts: int) -> int:
    """Cut so many times, and judge."""
    began_s, folder = time.monotonic(), a_folder()
    places = [folder / "disk", *(folder / "nodes" / f"n{number + 1}" / "store" for number in range(NODES))]
    by_desk = {"a": {"journal": "disk/a.db", "level": "replicated", "boot": 1}}
    settings = {"servers_sync": True}
    with disks(places) as (desk, *nodes):
        async with a_firm(
            DESKS, NODES, folder=folder, by_desk=by_desk, settings=settings, sync_always=True
        ) as firm:
            for number in range(cuts):
                await asyncio.sleep(BETWEEN_S)
                await cut(firm, desk, nodes[: CUT_NODES[mode]], number + 2)
            await asyncio.sleep(BETWEEN_S)
            judge = await firm.settle()
            judge.judge(repeats_freely=("a",))
            replicated = len((folder / "a.db.accepted").read_text().splitlines())
            say(f"    {replicated:,} were replicated, {judge.counts['lost']} of them are lost")
            if not replicated:
                judge.found.append("nothing was replicated")
            is_good = judge.tell()
            if not is_good:
                await asyncio.to_thread(shutil.copytree, desk.folder, folder / "journal-of-a")
    return report(f"power cut, {mode}, {cuts} times", is_good, folder, began_s)


async def refused() -> int:
    """Have a desk publish at `replicated` on servers as they are by default."""
    began_s = time.monotonic()
    async with a_firm(("a", "b"), NODES, by_desk={"a": {"level": "replicated"}}) as firm:
        is_good = await firm.desks["a"].has_told("refused", within_s=20)
        accepted = (firm.folder / "a.db.accepted").read_text()
        if not is_good or accepted:
            say("    FOUND: servers that do not sync before they acknowledge got the level `replicated`")
    return report("power cut, default", is_good and not accepted, firm.folder, began_s)


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    known = partial(chosen, known=MODES)
    parser.add_argument("--modes", type=known, default=list(MODES), help="which of them [all]")
    parser.add_argument("--cuts", type=int, default=3, help="how many cuts, in each mode [3]")
    given = parser.parse_args()
    failed = 0
    try:
        for mode in given.modes:
            failed += asyncio.run(refused() if mode == "default" else power_cut(mode, given.cuts))
    except NoDisk as problem:
        say(f"this campaign mounts file systems, which takes root: {problem}")
        return 2
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
