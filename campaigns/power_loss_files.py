"""What of a file is on the disk: what was synced, and any state that the rest has had since then."""

import random
from collections.abc import Callable
from typing import Final

SECTOR: Final = 512
PAGE: Final = 4096

Keep = Callable[[int, int], bool]
"""Asked as (number of the operation, sector): is the sector, as this operation left it, on the disk?"""


class Inode:
    """What a file holds on the disk, and what the page cache has done to it since."""

    __slots__ = ("_cache", "disk", "ops")

    def __init__(self, disk: bytes = b"") -> None:
        self.disk = bytearray(disk)
        self._cache: bytearray | None = None  # None: the same as the disk
        self.ops: list[tuple[int, bytes | None]] = []
        """Writes as (offset, bytes), truncations as (size, None)."""

    def sync(self) -> None:
        """Put everything dirty on the disk."""
        if self._cache is None:
            for offset, piece in self.ops:
                _apply(self.disk, offset, piece)
        else:
            self.disk = self._replay(lambda _, __: True, PAGE)
            for offset, piece in self.ops:
                _apply(self._cache, offset, piece)
        self.ops.clear()

    def fail_to_sync(self, rng: random.Random) -> None:
        """Put some of it on the disk, and take all of it for clean."""
        kept = self.after_cut(rng)
        cache = self.cached()
        self.disk, self._cache = bytearray(kept), cache
        self.ops.clear()

    def cached(self) -> bytearray:
        """Return what the page cache holds."""
        cache = bytearray(self.disk if self._cache is None else self._cache)
        for offset, piece in self.ops:
            _apply(cache, offset, piece)
        return cache

    def after_cut(self, rng: random.Random) -> bytes:
        """Return what the disk may hold when the power goes now."""
        if not self.ops:
            return bytes(self.disk)
        if rng.random() < 0.25:
            return self._torn(rng)
        hole = b"\0" if rng.random() < 0.75 else b"\xa5"
        return bytes(self._replay(choose_keep(rng, len(self.ops)), SECTOR, hole))

    def _torn(self, rng: random.Random) -> bytes:
        """Every operation up to one, and that one in part."""
        image = bytearray(self.disk if self._cache is None else self._replay(lambda _, __: True, PAGE))
        if self._cache is not None:
            return bytes(image)
        last = rng.randrange(len(self.ops))
        for offset, piece in self.ops[:last]:
            _apply(image, offset, piece)
        offset, piece = self.ops[last]
        if piece is not None:
            _apply(image, offset, piece[: rng.randrange(len(piece) + 1)])
        return bytes(image)

    def _replay(self, keep: Keep, unit: int, hole: bytes = b"\0") -> bytearray:
        """Let the page cache live again, and copy out every sector that is kept as it was then."""
        image = bytearray(self.disk)
        cache = bytearray(self.disk if self._cache is None else self._cache)
        for number, (offset, piece) in enumerate(self.ops):
            _apply(cache, offset, piece)
            if piece is None:
                if keep(number, -1):
                    del image[offset:]
                continue
            for sector in range(offset // unit, (offset + len(piece) - 1) // unit + 1):
                if keep(number, sector):
                    start = sector * unit
                    if start > len(image):
                        image += hole * (start - len(image))
                    image[start : start + unit] = cache[start : start + unit]
        return image


def _apply(content: bytearray, offset: int, piece: bytes | None) -> None:
    if piece is None:
        del content[offset:]
        return
    if offset > len(content):
        content += bytes(offset - len(content))
    content[offset : offset + len(piece)] = piece


def choose_keep(rng: random.Random, count: int) -> Keep:
    """Return one of the ways in which a disk may treat `count` operations that were not synced."""
    cut = rng.randrange(count + 1)
    chance = rng.random()
    per_operation = [rng.random() < chance for _ in range(count)]
    ways: tuple[Keep, ...] = (
        lambda _, __: False,
        lambda _, __: True,
        lambda number, _: number < cut,
        lambda number, _: number >= cut,
        lambda number, _: number != cut,
        lambda number, _: per_operation[number],
        lambda _, __: rng.random() < chance,
        lambda number, sector: number < cut or (number == cut and rng.random() < 0.5 and sector >= 0),
    )
    return rng.choice(ways)
