"""What it costs to record rounds: signals into rounds, durable at `process`, with and without records.

    python benchmarks/recording.py [--rounds 400] [--agents 14] [--pairs 9] [--folder .]

Both are run in turns in one process, and judged by the CPU time of the process, which other programs disturb least.
`together`: the agents of a round publish in one turn of the loop, so that their signals share a commit. `alone`: each
waits for the commit of the one before.
"""

import argparse
import asyncio
import gc
import statistics
import tempfile
import time
from pathlib import Path
from typing import Literal

from openoutcry import EventBus, PersistenceConfig, SignalEvent

Record = Literal["off", "rounds"]


def signal(agent: str, round_id: str) -> SignalEvent:
    return SignalEvent(
        source_agent=agent,
        strategy_name=agent,
        symbol="ES",
        direction="long",
        strength=0.4,
        round_id=round_id,
    )


async def seconds(folder: Path, record: Record, rounds: int, agents: list[str], *, together: bool) -> float:
    settings = PersistenceConfig(path=folder / "firm.db", record=record, socket=False)
    async with EventBus(persistence_config=settings) as bus:
        for agent in agents:
            bus.register_signal_agent(agent)
        bus.subscribe("signal", lambda _: None, name="cio")
        await bus.flush()
        gc.collect()
        began = time.process_time()
        for _ in range(rounds):
            round_id = bus.open_round().round_id
            if together:
                await asyncio.gather(*(bus.publish_signal(signal(agent, round_id)) for agent in agents))
            else:
                for agent in agents:
                    await bus.publish_signal(signal(agent, round_id))
            await bus.wait_for_signals(round_id)
        return time.process_time() - began


def measured(record: Record, given: argparse.Namespace, *, together: bool) -> float:
    agents = [f"agent-{number:02}" for number in range(given.agents)]
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        return asyncio.run(seconds(Path(folder), record, given.rounds, agents, together=together))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--agents", type=int, default=14)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--folder", default=".")
    given = parser.parse_args()
    for together in (True, False):
        ratios, least_s = list[float](), float("inf")
        for number in range(given.pairs):
            order: list[Record] = ["off", "rounds"] if number % 2 else ["rounds", "off"]
            took = {record: measured(record, given, together=together) for record in order}
            ratios.append(took["off"] / took["rounds"])
            least_s = min(least_s, took["off"])
        print(
            f"{'together' if together else 'alone':10} rounds is {statistics.median(ratios):.3f} of off "
            f"({min(ratios):.3f} to {max(ratios):.3f}); off: {least_s / given.rounds * 1e6:.0f} us a round"
        )


if __name__ == "__main__":
    main()
