"""Kill and suspend the desks of a firm and the nodes between them, and see that nothing is lost.

python -m campaigns.firm_kills --seconds 300 --seed 1..5
python -m campaigns.firm_kills --seconds 20 --nodes 1       one node instead of three
python -m campaigns.firm_kills --outage 60                  every node is away, and desks are killed meanwhile
"""

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Coroutine
from typing import Any, Final

from campaigns.firm_kit import Firm, a_firm, report, take_over
from campaigns.firm_truth import read, say
from openoutcry.ports import LOGS

DESKS: Final = ("a", "b", "c")
LEASE_S: Final = 3.0
PAUSE_S: Final = (0.2, 2.5)
QUIET_S: Final = 12.0
"""How long the nodes have to elect leaders, before more of them are killed."""


class Chaos:
    """Harms one firm.

    Attributes:
        done: What was done, in order.

    """

    def __init__(self, firm: Firm, seed: int) -> None:
        self.firm = firm
        self.done: list[str] = []
        self._dice = random.Random(seed)  # noqa: S311 - a seed is wanted
        self._tasks: set[asyncio.Task[None]] = set()
        self._harmed: set[str] = set()

    async def run(self, seconds: float) -> None:
        """Harm it for so long, several things at a time."""
        ends_s = time.monotonic() + seconds
        while time.monotonic() < ends_s:
            await asyncio.sleep(self._dice.uniform(*PAUSE_S))
            self._begin()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self) -> None:
        """Choose something that is whole, and harm it."""
        free = [desk for desk in DESKS if desk not in self._harmed]
        nodes = range(len(self.firm.servers.nodes))
        harmed_nodes = sum(f"node {number}" in self._harmed for number in nodes)
        what = self._dice.choice(("kill", "kill", "kill", "stop", "node", "pause"))
        if what == "pause" and self._dice.random() < 0.5:
            what = "leader"
        if what in ("kill", "stop") and free:
            desk = self._dice.choice(free)
            self._spawn(desk, self._kill(desk) if what == "kill" else self._stop(desk), f"{what} {desk}")
        elif what in ("node", "pause", "leader") and not harmed_nodes:
            number = self._dice.choice(nodes)
            if what == "leader":
                leader = self.firm.leader(self._dice.choice(LOGS))
                number = self.firm.servers.nodes.index(leader) if leader is not None else number
            work = self._kill_node(number) if what == "node" else self._pause_node(number)
            self._spawn(f"node {number}", work, f"{what} {number}")

    def _spawn(self, who: str, work: Coroutine[Any, Any, None], what: str) -> None:
        self.done.append(what)
        self._harmed.add(who)
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(lambda _: self._harmed.discard(who))

    async def _kill(self, desk: str) -> None:
        """Kill a desk, and start it again: at once, or a while later."""
        await self.firm.kill(desk)
        await asyncio.sleep(self._dice.choice((0.0, 0.0, 0.5, 2.0)))
        process = await self.firm.start(desk)
        if self._dice.random() < 0.3:  # it dies again while it starts
            await asyncio.sleep(self._dice.uniform(0.1, 0.8))
            await self.firm.kill(desk)
            process = await self.firm.start(desk)
        await process.has_told("started")

    async def _stop(self, desk: str) -> None:
        """Let a desk stand still, often beyond its lease."""
        process = self.firm.desks[desk]
        process.stand_still()
        await asyncio.sleep(self._dice.choice((0.5, 1.5 * LEASE_S)))
        process.go_on()

    async def _kill_node(self, number: int) -> None:
        """Kill a node, and start it again."""
        node = self.firm.servers.nodes[number]
        self._lose_node()
        node.kill()
        await asyncio.sleep(self._dice.choice((0.1, 1.0, 5.0)))
        node.start()
        await asyncio.to_thread(node.wait, 60.0)
        await self._find_node()

    async def _pause_node(self, number: int) -> None:
        """Let a node stand still beyond the lease."""
        node = self.firm.servers.nodes[number]
        self._lose_node()
        node.pause()
        await asyncio.sleep(1.5 * LEASE_S)
        node.resume()
        await self._find_node()

    def _lose_node(self) -> None:
        if len(self.firm.servers.nodes) == 1:
            self.firm.nodes_away()

    async def _find_node(self) -> None:
        if len(self.firm.servers.nodes) == 1:
            await asyncio.sleep(0.5)
            self.firm.nodes_back()
        else:
            await asyncio.sleep(QUIET_S)


async def kills(seed: int, seconds: float, nodes: int) -> int:
    """Harm a firm for so long, and judge."""
    began_s = time.monotonic()
    lease_s = LEASE_S if seed % 2 else 0.0
    async with a_firm(DESKS, nodes, settings={"lease_s": lease_s}) as firm:
        chaos = Chaos(firm, seed)
        await chaos.run(seconds)
        judge = await firm.settle()
        done = ", ".join(chaos.done[:12])
        say(f"  seed {seed}, lease {lease_s:g} s, {len(chaos.done)} harms: {done} ...")
        judge.judge()
    return report(f"kills, seed {seed}, {nodes} nodes", judge.tell(), firm.folder, began_s)


async def holders(seed: int, nodes: int) -> int:
    """Let the holder of a desk stand still beyond its lease, another take it over, and the first wake."""
    began_s, dice = time.monotonic(), random.Random(seed)  # noqa: S311 - a seed is wanted
    async with a_firm(("a", "b"), nodes, settings={"lease_s": LEASE_S}) as firm:
        await asyncio.sleep(dice.uniform(0.5, 2))
        firm.desks["a"].stand_still()
        found = await take_over(firm, "a", ("b",), dice.uniform(0.5, 2), firm.desks["a"].go_on)
    return report(f"two holders, seed {seed}, {nodes} nodes", not found, firm.folder, began_s)


async def outage(seed: int, seconds: float, nodes: int) -> int:
    """Kill every node, and desks while they are away; each desk must trade on, and nothing be lost."""
    began_s, dice = time.monotonic(), random.Random(seed)  # noqa: S311 - a seed is wanted
    async with a_firm(DESKS, nodes) as firm:
        await asyncio.sleep(2)
        firm.nodes_away()
        for node in firm.servers.nodes:
            node.kill()
        before, ends_s = made(firm), time.monotonic() + seconds
        while time.monotonic() < ends_s:
            await asyncio.sleep(dice.uniform(0.05, 0.25) * seconds)
            desk = dice.choice(DESKS)
            await firm.kill(desk)
            process = await firm.start(desk)
            process.away()
            await process.has_told("started")
        idle = [desk for desk, count in made(firm).items() if count <= before[desk]]
        for node in firm.servers.nodes:
            node.start()
        await asyncio.sleep(QUIET_S)
        firm.nodes_back()
        judge = await firm.settle()
        say(f"  seed {seed}, {sum(firm.crashes.values())} desks killed while no node was there")
        judge.judge()
    for desk in idle:
        say(f"    FOUND: desk {desk} has accepted nothing while no node was there")
    is_good = judge.tell() and not idle
    return report(f"outage of {seconds:g} s, seed {seed}, {nodes} nodes", is_good, firm.folder, began_s)


def made(firm: Firm) -> dict[str, int]:
    """Return how many events each desk has accepted."""
    return {desk: sum(map(len, read(firm.journal(desk)).own().values())) for desk in DESKS}


def seeds_of(text: str) -> range:
    """Return the seeds of `7` or `1..5`."""
    first, _, last = text.partition("..")
    return range(int(first), int(last or first) + 1)


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long each seed is harmed [60]")
    parser.add_argument("--seed", type=seeds_of, default=range(1, 2), help="a seed, or several: 1..5 [1]")
    parser.add_argument("--nodes", type=int, choices=(1, 3), default=3, help="how many nodes there are [3]")
    parser.add_argument(
        "--outage", type=float, default=0.0, help="every node is away for so many seconds [0]"
    )
    given = parser.parse_args()
    failed = 0
    for seed in given.seed:
        if given.outage:
            failed += asyncio.run(outage(seed, given.outage, given.nodes))
            continue
        failed += asyncio.run(kills(seed, given.seconds, given.nodes))
        failed += asyncio.run(holders(seed, given.nodes))
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
