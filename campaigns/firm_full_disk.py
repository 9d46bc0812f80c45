"""Fill the disk of the node between the desks of a firm: the desks go on, and nothing is lost.

python -m campaigns.firm_full_disk --nodes 1

The node's files are on a small tmpfs, which takes root. The server may not answer for as long as there is no
room, nor after that until it is started again: see `docs/howto/several-desks.md`. So it is started again.
"""

import argparse
import asyncio
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from campaigns.firm_kit import Firm, a_firm, a_folder, report
from campaigns.firm_truth import say
from openoutcry.links.nats.servers import Servers

DESKS: Final = ("a", "b", "c")
SIZE_MIB: Final = 48
SIZE_AFTER_MIB: Final = 256
FULL_S: Final = 8.0
SETTLE_S: Final = 120.0


def mount(folder: Path, size_mib: int) -> bool:
    """Mount a small tmpfs; False where that is not permitted."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(folder)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0  # noqa: S603


def promise_room(servers: Servers) -> None:
    """Have the nodes believe that there is more room than there is."""
    for node in servers.nodes:
        node.config = node.config.replace("jetstream {", "jetstream { max_file_store: 8G,")


def fill_up(ballast: Path) -> None:
    """Write a file until there is no room for more."""
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)


def enlarge(disk: Path) -> None:
    """Make the tmpfs larger."""
    command = ["mount", "-o", f"remount,size={SIZE_AFTER_MIB}m", str(disk)]
    subprocess.run(command, check=True)  # noqa: S603


async def does_trade(firm: Firm) -> bool:
    """Return True if the desks that run go on accepting events."""
    notes = [firm.folder / f"{desk}.db.accepted" for desk in "ab"]
    sizes = [path.stat().st_size for path in notes]
    await asyncio.sleep(2)
    return all(path.stat().st_size > size for path, size in zip(notes, sizes, strict=True))


async def fill(nodes: int) -> int:
    """Fill the disk of the first node, make room again, and judge."""
    began_s, folder = time.monotonic(), a_folder()
    disk = folder / "nodes" / "n1"
    if not mount(disk, SIZE_MIB):
        say("a tmpfs cannot be mounted here: this campaign takes root")
        return 2
    ballast = disk / "ballast"
    try:
        settings = {"rate": 400, "size": 1_500, "max_bytes": 2**30}
        async with a_firm(DESKS, nodes, folder=folder, prepare=promise_room, settings=settings) as firm:
            await firm.kill("c")  # so that nothing is trimmed
            await asyncio.to_thread(fill_up, ballast)
            await asyncio.sleep(FULL_S)
            await asyncio.to_thread(fill_up, disk / "more")
            goes_on = await does_trade(firm)
            has_told = "no space left" in firm.servers.nodes[0].log.lower()
            say(f"    the desks {'go on' if goes_on else 'STAND STILL'} beside a full disk")
            for process in firm.desks.values():
                process.tell("quiet")
            ballast.unlink()
            (disk / "more").unlink()
            await asyncio.to_thread(enlarge, disk)
            if nodes == 1:
                firm.nodes_away()
            firm.servers.nodes[0].kill()
            judge = await firm.settle(SETTLE_S)
            judge.judge()
            if not (goes_on and has_told):
                judge.found.append("a desk stood still" if has_told else "the disk was not full")
        return report(f"full disk, {nodes} nodes", judge.tell(), folder, began_s)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)  # noqa: ASYNC221, S603, S607


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--nodes", type=int, choices=(1, 3), default=1, help="how many nodes there are [1]")
    return asyncio.run(fill(parser.parse_args().nodes))


if __name__ == "__main__":
    sys.exit(main())
