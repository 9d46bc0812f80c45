"""The process in which atheris fuzzes: started by `campaigns.fuzz`, ended by libFuzzer."""

import importlib
import os
import random
import sys
from pathlib import Path
from typing import Final

_FOUND: Final = 77


def main() -> None:
    """Fuzz the target named by the first argument; a failing input goes to the file named by the second."""
    name, found, *options = sys.argv[1:]
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["openoutcry"]):
        fuzz = importlib.import_module("campaigns.fuzz")
        target = fuzz.target_of(name)
    guide = importlib.import_module("campaigns.fuzz_guide")
    seeds = list(target.seeds())

    def run(data: bytes) -> None:
        if fuzz.fault_of(target, data):
            Path(found).write_bytes(data)
            os._exit(_FOUND)

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        rng = random.Random(seed)  # noqa: S311 - nothing secret
        if rng.random() < 0.5:
            return bytes(atheris.Mutate(data, most))
        return bytes(guide.mutated(data, seeds, target.words, rng)[:most])

    atheris.Setup([sys.argv[0], *options], run, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
