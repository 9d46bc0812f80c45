"""`python -m openoutcry.firm.desks LIFE`: one life of a desk, a process that may be killed at any moment.

LIFE is a JSON object (`words.DeskLife`). What it is asked comes as JSON lines through standard input
(`words.Request`), what happens is written to standard output (`words.DeskWord`). When its standard input
ends, the process ends at once.
"""

import asyncio
import os
import sys
from threading import Thread

import msgspec

from openoutcry.firm.crash.__main__ import ORPHANED, hold, tell
from openoutcry.firm.crash.words import Word
from openoutcry.firm.desks.desk import LinkedDesk, live
from openoutcry.firm.desks.words import DeskLife, Request


async def main(life: DeskLife) -> None:
    """Run the desk, and do what standard input asks for."""
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    def begin(desk: LinkedDesk, line: bytes) -> None:
        task = loop.create_task(desk.do(msgspec.json.decode(line, type=Request)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def follow(desk: LinkedDesk) -> None:
        rest = b""
        while data := os.read(0, 64 * 1024):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                loop.call_soon_threadsafe(begin, desk, line)
        os._exit(ORPHANED)

    await live(life, tell, hold, lambda desk: Thread(target=follow, args=(desk,), daemon=True).start())


if __name__ == "__main__":
    tell(Word(at="born"))
    asyncio.run(main(msgspec.json.decode(sys.argv[1], type=DeskLife)))
