"""Throw kill switches on one desk under faults, and measure when the handlers of the other desks have them.

python -m campaigns.firm_kill_switch --faults none,node,quorum,flood,jetstream

    none        nothing is wrong
    node        one node of three is killed in the middle
    quorum      two nodes of three are killed: JetStream answers nobody
    flood       the desk that throws sends 18,000 ticks a second, over one node
    jetstream   the nodes run without JetStream

All are on one host, so that one monotonic clock measures both ends.
"""

import argparse
import asyncio
import re
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

from campaigns.firm_kit import Firm, a_firm, chosen, report
from campaigns.firm_truth import say

DESKS: Final = ("a", "b", "c")
PAUSE_S: Final = 0.05
TICKS: Final = 18_000
MISSED_S: Final = 5.0


async def nothing(_firm: Firm) -> None:
    """Do no harm."""


async def one_node(firm: Firm) -> None:
    """Kill one node."""
    firm.servers.nodes[0].kill()


async def two_nodes(firm: Firm) -> None:
    """Kill two of three nodes."""
    for node in firm.servers.nodes[:2]:
        node.kill()


async def no_jetstream(firm: Firm) -> None:
    """Have the nodes run without JetStream, one after the other."""
    for node in firm.servers.nodes:
        node.stop()
        node.config = re.sub(r"(?m)^jetstream .*$", "", node.config)
        node.start()
        await asyncio.to_thread(node.wait, 30.0)
        await asyncio.sleep(1)


FAULTS: Final[Mapping[str, Callable[[Firm], Awaitable[None]]]] = {
    "none": nothing,
    "node": one_node,
    "quorum": two_nodes,
    "flood": nothing,
    "jetstream": no_jetstream,
}


async def measure(fault: str, throws: int, p99_ms: float) -> int:
    """Throw so many kill switches, half of them before the fault, and report how soon they were heard."""
    began_s = time.monotonic()
    ticks = TICKS if fault == "flood" else 0
    nodes = 1 if fault == "flood" else 3  # seven busy processes on two cores would measure the cores
    async with a_firm(DESKS, nodes, settings={"rate": 20, "ticks": ticks}) as firm:
        await firm.end_probing()
        await asyncio.sleep(2)
        for half in range(2):
            for number in range(throws // 2):
                kill_id = f"kill-{half}-{number}"
                firm.desks["a"].tell("throw", kill_id)
                await asyncio.sleep(PAUSE_S)
                firm.desks["a"].tell("release", kill_id)
                if half and number == 2:
                    await FAULTS[fault](firm)
                await asyncio.sleep(PAUSE_S)
        await asyncio.sleep(MISSED_S)
        late_ms, missed = _late(firm)
    p50, p99, most = (_share(late_ms, share) for share in (0.5, 0.99, 1.0))
    say(
        f"  {fault}: {len(late_ms)} heard, missed {len(missed)}, p50 {p50:.2f} ms, p99 {p99:.2f} ms, "
        f"most {most:.2f} ms"
    )
    for one in missed[:5]:
        say(f"    FOUND: {one}")
    return report(f"kill switch, {fault}", not missed and p99 <= p99_ms, firm.folder, began_s)


def _late(firm: Firm) -> tuple[list[float], list[str]]:
    """Return how late each throw and release was heard at each other desk, and what was not heard."""
    late_ms, missed = [], []
    thrown = {(words[1], words[3]): int(words[2]) for words in firm.desks["a"].told if words[0] == "threw"}
    for desk in DESKS[1:]:
        heard: dict[tuple[str, str], int] = {}
        for words in firm.desks[desk].told:
            if words[0] == "heard":
                heard.setdefault((words[1], words[3]), int(words[2]))
        for key, at_ns in thrown.items():
            if key in heard:
                late_ms.append((heard[key] - at_ns) / 1e6)
            else:
                missed.append(f"{desk} did not hear {key[0]}, activated: {key[1]}")
    return late_ms, missed


def _share(values: list[float], share: float) -> float:
    ordered = sorted(values) or [float("nan")]
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    known = partial(chosen, known=FAULTS)
    parser.add_argument("--faults", type=known, default=list(FAULTS), help="which of them [all]")
    parser.add_argument(
        "--throws", type=int, default=200, help="how many kill switches, for each fault [200]"
    )
    parser.add_argument("--p99-ms", type=float, default=10.0, help="the bound [10]")
    given = parser.parse_args()
    return max([asyncio.run(measure(fault, given.throws, given.p99_ms)) for fault in given.faults])


if __name__ == "__main__":
    sys.exit(main())
