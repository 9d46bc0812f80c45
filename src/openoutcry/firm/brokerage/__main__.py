"""`python -m openoutcry.firm.brokerage FILE SOCKET`: the paper broker as a process of its own.

It writes `open` to standard output when it can be reached, and ends when its standard input is closed, so
that it does not outlive the process that started it.
"""

import asyncio
import sys
from pathlib import Path

from openoutcry.firm.brokerage.ledger import BrokerLedger
from openoutcry.firm.brokerage.server import serve
from openoutcry.firm.mandate import Mandate


async def attend(file: Path, socket: Path) -> None:
    """Serve until standard input ends."""
    with BrokerLedger(file, Mandate()) as ledger:
        async with serve(ledger, socket):
            sys.stdout.write("open\n")
            sys.stdout.flush()
            reader = asyncio.StreamReader()
            await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
            )
            await reader.read()


if __name__ == "__main__":
    asyncio.run(attend(Path(sys.argv[1]), Path(sys.argv[2])))
