"""Delete or damage the logs between the desks of a firm: they are filled again from the journals.

python -m campaigns.firm_lost_log --modes deleted,late,wiped,flipped

    deleted     a log is deleted while everything runs: `normal`, then `high`, then both
    late        both are deleted while a desk is dead, which has not imported all
    wiped       the server's disk is emptied: logs, seats, everything
    flipped     bits of the server's files are flipped while it is down
"""

import argparse
import asyncio
import random
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import nats

from campaigns.firm_kit import Firm, a_firm, chosen, report
from openoutcry.links.nats.subjects import Subjects
from openoutcry.ports import LOGS

DESKS: Final = ("a", "b", "c")
FLIPS: Final = 5


async def delete(firm: Firm, *logs: str) -> None:
    """Delete logs, as an administrator can."""
    client = await nats.connect(firm.servers.urls[0])
    try:
        for log in logs:
            stream = Subjects(firm.name).stream(log)  # type: ignore[arg-type]
            await client.request(f"$JS.API.STREAM.DELETE.{stream}", b"", timeout=10)
    finally:
        await client.close()


async def deleted(firm: Firm, _dice: random.Random) -> None:
    """Delete one log, the other, and both, with desks that run."""
    for logs in (("normal",), ("high",), LOGS):
        await delete(firm, *logs)
        await asyncio.sleep(4)


async def late(firm: Firm, _dice: random.Random) -> None:
    """Delete both while a desk is dead."""
    await firm.kill("c")
    await asyncio.sleep(2)
    await delete(firm, *LOGS)
    await asyncio.sleep(2)
    await firm.start("c")
    await asyncio.sleep(3)


async def wiped(firm: Firm, _dice: random.Random) -> None:
    """Empty the server's disk while it is down."""
    node = firm.servers.nodes[0]
    firm.nodes_away()
    node.kill()
    shutil.rmtree(node.folder / "store")
    await asyncio.sleep(2)
    node.start()
    await asyncio.sleep(5)
    firm.nodes_back()


async def flipped(firm: Firm, dice: random.Random) -> None:
    """Flip bits of what the logs have on the disk, while a desk that lacks it is dead."""
    await firm.kill("c")
    await asyncio.sleep(3)
    node = firm.servers.nodes[0]
    firm.nodes_away()
    node.kill()
    blocks = [path for path in (node.folder / "store").rglob("*.blk") if path.stat().st_size]
    for _ in range(FLIPS):
        flip(dice.choice(blocks), dice)
    node.start()
    await firm.start("c")
    await asyncio.sleep(5)
    firm.nodes_back()


def flip(path: Path, dice: random.Random) -> None:
    """Flip one bit of a file."""
    data = bytearray(path.read_bytes())
    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    path.write_bytes(data)


MODES: Final[Mapping[str, Callable[[Firm, random.Random], Awaitable[None]]]] = {
    "deleted": deleted,
    "late": late,
    "wiped": wiped,
    "flipped": flipped,
}


async def lose(mode: str, seed: int) -> int:
    """Harm the logs in one way, and judge."""
    began_s = time.monotonic()
    async with a_firm(DESKS, 1) as firm:
        await asyncio.sleep(2)
        await MODES[mode](firm, random.Random(seed))  # noqa: S311 - a seed is wanted
        judge = await firm.settle()
        judge.judge()
    return report(f"lost log, {mode}, seed {seed}", judge.tell(), firm.folder, began_s)


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--modes", type=partial(chosen, known=MODES), default=list(MODES), help="which of them [all]"
    )
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds of each [1]")
    given = parser.parse_args()
    return max(asyncio.run(lose(mode, seed)) for mode in given.modes for seed in range(given.seeds))


if __name__ == "__main__":
    sys.exit(main())
