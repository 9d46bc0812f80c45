"""What guides a fuzzer, and how it changes inputs: new lines, and pieces of good inputs."""

import random
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from types import CodeType, FrameType
from typing import Any, Final

INPUT_BYTES_MOST: Final = 8_192
_EVENTS_MOST: Final = 300


class Lines:
    """Counts the lines of some packages that calls reach, by the interpreter's tracing.

    Attributes:
        reached: How many lines there were up to now.

    """

    def __init__(self, packages: tuple[str, ...]) -> None:
        self._packages = packages
        self._unseen: dict[CodeType, set[int]] = {}
        self._seen: set[tuple[CodeType, int]] = set()
        self._events: Counter[CodeType] = Counter()

    @property
    def reached(self) -> int:
        """How many there were up to now."""
        return len(self._seen)

    def watch(self, call: Callable[[bytes], None], data: bytes) -> None:
        """Call it, and note the lines."""
        self._events.clear()
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            call(data)
        finally:
            sys.settrace(before)

    def _enter(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        code = frame.f_code
        unseen = self._unseen.get(code)
        if unseen is None:
            ours = str(frame.f_globals.get("__name__", "")).startswith(self._packages)
            lines = {
                line for _, _, line in code.co_lines() if line is not None and line != code.co_firstlineno
            }
            unseen = self._unseen[code] = lines if ours else set()
        self._events[code] += 1
        # where nothing is to be learned, or a loop goes round and round, it is not worth the time
        return self._line if unseen and self._events[code] < _EVENTS_MOST else None

    def _line(self, frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "line":
            self._seen.add((frame.f_code, frame.f_lineno))
            unseen = self._unseen[frame.f_code]
            unseen.discard(frame.f_lineno)
            self._events[frame.f_code] += 1
            if not unseen or self._events[frame.f_code] >= _EVENTS_MOST:
                return None
        return self._line


def mutated(data: bytes, corpus: Sequence[bytes], words: Sequence[bytes], rng: random.Random) -> bytes:
    """Return an input that was changed in one to four places."""
    content = bytearray(data)
    for _ in range(1 << rng.randrange(3)):
        _change(content, corpus, words, rng)
    return bytes(content[:INPUT_BYTES_MOST])


def _change(content: bytearray, corpus: Sequence[bytes], words: Sequence[bytes], rng: random.Random) -> None:
    at = rng.randrange(len(content) + 1)
    end = min(len(content), at + 1 + int(rng.expovariate(0.2)))
    kind = rng.randrange(8)
    if kind == 0 and at < len(content):
        content[at] ^= 1 << rng.randrange(8)
    elif kind == 1 and at < len(content):
        content[at] = rng.randrange(256)
    elif kind == 2:
        del content[at:end]
    elif kind == 3:
        content[at:at] = rng.choice(words)
    elif kind == 4:
        content[at:end] = rng.choice(words)
    elif kind == 5:
        content[at:at] = content[at:end] * rng.randrange(1, 4)
    elif kind == 6:
        other = rng.choice(corpus)
        start = rng.randrange(len(other) + 1)
        content[at:] = other[start:]
    else:
        content[at:at] = rng.randbytes(rng.randrange(1, 9))


def minimised(data: bytes, fails: Callable[[bytes], bool], tries: int = 2_000) -> bytes:
    """Return a short input that fails too, found by leaving pieces out, then by putting zeros for bytes."""
    size = max(1, len(data) // 2)
    while size and tries > 0:
        at, shorter = 0, False
        while at < len(data) and tries > 0:
            tries -= 1
            without = data[:at] + data[at + size :]
            if fails(without):
                data, shorter = without, True
            else:
                at += size
        if not shorter or size > 1:
            size //= 2
    return data
