"""`python -m openoutcry.firm.crash LIFE`: one life of the firm, a process that may be killed at any moment.

LIFE is a JSON object (`words.Life`). What happens is written as JSON lines to standard output (`words.Word`).
When its standard input ends, the process ends at once, so that it does not outlive its supervisor.
"""

import asyncio
import os
import sys
from threading import Event, Thread

import msgspec

from openoutcry.firm.crash.firm import live
from openoutcry.firm.crash.words import Life, Word

ORPHANED = 3


def tell(word: Word) -> None:
    """Write a line."""
    os.write(1, msgspec.json.encode(word) + b"\n")


def hold() -> None:
    """Stop right here and block the loop, so that nothing else happens."""
    Event().wait()


def follow() -> None:
    """End when standard input ends."""
    while os.read(0, 1):
        pass
    os._exit(ORPHANED)


if __name__ == "__main__":
    Thread(target=follow, daemon=True).start()
    tell(Word(at="born"))
    asyncio.run(live(msgspec.json.decode(sys.argv[1], type=Life), tell, hold))
