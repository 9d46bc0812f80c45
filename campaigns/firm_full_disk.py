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
from pathlib import Path
from typing import Final

from campaigns.firm_kit import Firm, a_firm, a_folder, report
from openoutcry.links.nats.servers import Servers

DESKS: Final = ("a", "b", "c")
SIZE_MIB: Final = 24
BALLAST_MIB: Final = 8
FULL_S: Final = 25.0
AFTER_S: Final = 8.0


def mount(folder: Path, size_mib: int) -> bool:
    """Mount a small tmpfs; False where that is not permitted."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(folder)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0  # noqa: S603


def promise_room(servers: Servers) -> None:
    """Have the nodes believe that there is more room than there is."""
    for node in servers.nodes:
        node.config = node.config.replace("jetstream {", "jetstream { max_file_store: 8G,")


async def until_full(firm: Firm, folder: Path) -> bool:
    """Wait until the disk has no room; False if that does not come."""
    ends_s = time.monotonic() + FULL_S * 2
    while time.monotonic() < ends_s:
        found = subprocess.run(["df", "--output=avail", "-k", str(folder)], check=True, capture_output=True)  # noqa: S603, S607
        if int(found.stdout.split()[-1]) < 64 or "no space left" in firm.servers.nodes[0].log.lower():
            return True
        await asyncio.sleep(0.2)
    return False


async def fill(nodes: int) -> int:
    """Fill the disk of the first node, make room again, and judge."""
    began_s, folder = time.monotonic(), a_folder()
    disk = folder / "nodes" / "n1"
    if not mount(disk, SIZE_MIB):
        print("a tmpfs cannot be mounted here: this campaign takes root")
        return 2
    ballast = disk / "ballast"
    ballast.write_bytes(b"\0" * (BALLAST_MIB * 2**20))
    try:
        # c is dead, so that nothing is trimmed
        settings = {"rate": 400, "size": 1_500, "max_bytes": 2**30}
        async with a_firm(DESKS, nodes, folder=folder, prepare=promise_room, **settings) as firm:
            await firm.kill("c")
            is_full = await until_full(firm, disk)
            print(
                f"  the disk is {'full' if is_full else 'NOT full'} after {time.monotonic() - began_s:.0f} s"
            )
            await asyncio.sleep(AFTER_S)
            grown = [(folder / f"{desk}.db.accepted").stat().st_size for desk in "ab"]
            await asyncio.sleep(2)
            goes_on = [(folder / f"{desk}.db.accepted").stat().st_size for desk in "ab"]
            does_trade = all(now > before for before, now in zip(grown, goes_on, strict=True))
            print(f"  the desks {'go on' if does_trade else 'STAND STILL'} beside it")
            for desk in "ab":
                firm.desks[desk].tell("quiet")
            ballast.unlink()
            subprocess.run(["mount", "-o", "remount,size=256m", str(disk)], check=True)  # noqa: S603, S607
            firm.servers.nodes[0].kill()
            judge = await firm.settle(120)
            is_good = judge.judge() and is_full and does_trade
        return report(f"full disk, {nodes} nodes", is_good, folder, began_s)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)  # noqa: S603, S607


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--nodes", type=int, choices=(1, 3), default=1, help="how many nodes there are [1]")
    return asyncio.run(fill(parser.parse_args().nodes))


if __name__ == "__main__":
    sys.exit(main())
