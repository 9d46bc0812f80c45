"""One measurement in a fresh process: `python cell.py '{"measure": ..., "loop": ..., "params": {...}}'`.

The result is one line of JSON on the standard output.
"""

import asyncio
import json
import os
import sys
from importlib import import_module
from typing import Any


async def run(spec: dict[str, Any]) -> None:
    module, function = spec["measure"].rsplit(".", 1)
    measure = getattr(import_module(f"measures.{module}"), function)
    print(json.dumps(await measure(**spec["params"])), flush=True)
    os._exit(0)  # neither what a slow handler was left with nor other buses' threads may hold the run up


def main() -> None:
    spec = json.loads(sys.argv[1])
    loop_factory = None
    if spec["loop"] == "uvloop":
        import uvloop  # noqa: PLC0415 - an optional package, for the cells that ask for it

        loop_factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(run(spec))


if __name__ == "__main__":
    main()
