"""Random lives of a bus, its dead letters held against a plain model: bury, redrive, drop, replace, crash (CONTRACT 10, 11)."""

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from bus_helpers import a_fill, a_kill, a_tick, an_order, assert_balanced, virtual
from durable_kit import Disk, a_bus, turns

from openoutcry import EventBus, NotSubscribed

NAMES = ("risk", "book")
STEPS = 40


class Life:
    """A bus with two names, and what should be true of its letters.

    Attributes:
        letters: The ids of the events of the letters of each name.
        handled: How often each name has handled an event.
        owed: Events that were accepted, by the names that were subscribed then.

    """

    def __init__(self, seed: int, disk: Disk | None) -> None:
        self.chance = random.Random(seed)
        self.disk = disk
        self.letters: dict[str, set[str]] = {name: set() for name in NAMES}
        self.handled: Counter[tuple[str, str]] = Counter()
        self.owed: set[tuple[str, str]] = set()
        self.dropped: set[tuple[str, str]] = set()
        self.broken: dict[str, bool] = dict.fromkeys(NAMES, True)
        self.handlers: dict[str, Any] = {}
        self.told: list[str] = []
        self.number = 0
        self.bus = self.make()

    def make(self) -> EventBus:
        bus = EventBus(50) if self.disk is None else a_bus(self.disk.journal, max_queue_size=50)
        self.handlers = {}
        return bus

    def subscribe(self, name: str) -> None:
        async def handle(event: Any) -> None:
            await asyncio.sleep(self.chance.choice((0, 0, 0.001)))
            if self.broken[name]:
                raise ValueError(name)
            self.handled[name, event.event_id] += 1

        concurrency = self.chance.choice((1, 1, 3))
        self.bus.subscribe("*", handle, name=name, retry=False, breaker=False, concurrency=concurrency)
        self.handlers[name] = handle

    def its_scope(self, kind: Any) -> dict[str, str]:
        """Kill switches of scopes enough that none is folded, whichever of them wait at once."""
        return {"scope": f"desk {self.number % 8}"} if kind is a_kill else {}

    # -- steps --------------------------------------------------------------------------------------

    async def publish(self) -> None:
        for _ in range(self.chance.choice((1, 3, 40))):
            self.number += 1
            kind: Any = self.chance.choice((an_order, a_fill, a_tick, a_kill))
            event = kind(event_id=f"e-{self.number}", **self.its_scope(kind))
            assert await self.bus.publish(event)
            for name in self.handlers:
                self.owed.add((name, event.event_id))
                if self.broken[name]:
                    self.letters[name].add(event.event_id)
        await self.rest()

    async def redrive(self, *, waits: bool = True) -> None:
        name = self.chance.choice((*NAMES, None))
        present = [one for one in self.handlers if name in (None, one)]
        chosen = {}
        if self.chance.random() < 0.4:
            ids = [letter.letter_id for letter in self.bus.dead_letters() if self.chance.random() < 0.5]
            chosen = {"letter_ids": ids}
        meant = {
            (letter.subscription, letter.event.event_id)
            for letter in self.bus.dead_letters()
            if letter.subscription in present
            and letter.letter_id in chosen.get("letter_ids", [letter.letter_id])
        }
        try:
            count = self.bus.admin.redrive(name, anew=self.chance.random() < 0.3, **chosen)
        except NotSubscribed:
            assert not meant
            return
        assert count == len(meant), (count, len(meant))
        for owner, event_id in meant:
            if not self.broken[owner]:
                self.letters[owner].discard(event_id)
        if waits:
            await self.rest()

    async def drop(self) -> None:
        name = self.chance.choice(NAMES)
        ids = [letter.letter_id for letter in self.bus.dead_letters() if self.chance.random() < 0.3]
        gone = [letter for letter in self.bus.dead_letters() if letter.letter_id in ids]
        gone = [letter for letter in gone if letter.subscription == name]
        try:
            assert self.bus.admin.drop_dead_letters(name, letter_ids=ids) == len(gone)
        except NotSubscribed:
            assert not gone
        for letter in gone:
            self.letters[name].discard(letter.event.event_id)
            self.dropped.add((name, letter.event.event_id))

    async def replace(self) -> None:
        name = self.chance.choice(NAMES)
        if name in self.handlers:
            if self.chance.random() < 0.5:  # while its letters are redriven
                before = Counter(self.handled)
                self.bus.admin.redrive(name)
                await asyncio.sleep(self.chance.choice((0, 0.001)))
                self.bus.unsubscribe("*", self.handlers.pop(name))
                await asyncio.sleep(0.1)
                self.letters[name] -= {event_id for owner, event_id in self.handled - before if owner == name}
            else:
                self.bus.unsubscribe("*", self.handlers.pop(name))
        else:
            self.subscribe(name)
            await self.rest(are_new=True)  # its cursor may have waited in the journal

    async def mend_or_break(self) -> None:
        name = self.chance.choice(NAMES)
        self.broken[name] = not self.broken[name]

    async def restart(self) -> None:
        await self.bus.stop()
        if self.chance.random() < 0.5 or self.disk is None:
            await self.bus.start()
            return
        self.disk.restarted()
        await self.begin()

    async def crash(self) -> None:
        if self.disk is None:
            return
        is_flushed = self.chance.random() < 0.5
        if is_flushed:
            await self.bus.flush()
        else:
            await self.redrive(waits=False)
            await turns(self.chance.choice((0, 1, 3, 10)))
        before = {name: set(ids) for name, ids in self.letters.items()}
        journal = self.disk.image()
        old, handled = self.bus, Counter(self.handled)
        found = {name: set() for name in NAMES}
        for letter in journal.buried():
            found[letter.subscription].add(_id(letter.payload))
        if is_flushed:
            assert found == before, "what was saved is there, no more and no less"
        await old.stop(timeout_s=0)
        self.handled = handled
        self.letters = found
        await self.begin()

    async def begin(self) -> None:
        self.bus = self.make()
        for name in NAMES:
            if self.chance.random() < 0.8:
                self.subscribe(name)
        await self.bus.start()
        before = dict(self.letters)
        await self.rest(are_new=True)
        for name, ids in before.items():
            assert ids <= self.letters[name], f"{name} has lost {ids - self.letters[name]}"

    async def rest(self, *, are_new: bool = False) -> None:
        await self.bus.join()
        if are_new:  # what had not been saved is handled, or fails, once more
            for letter in self.bus.dead_letters():
                self.letters[letter.subscription].add(letter.event.event_id)

    # -- what must be true ----------------------------------------------------------------------------

    def check(self) -> None:
        found = Counter((k.subscription, k.event.event_id) for k in self.bus.dead_letters())
        assert all(count == 1 for count in found.values()), "one letter for an event of a name"
        assert set(found) == {(name, e) for name, ids in self.letters.items() for e in ids}
        counts = {name: len(ids) for name, ids in self.letters.items() if ids}
        assert self.bus.dead_letter_counts() == counts
        status = self.bus.get_status()
        assert status["dead_letters"] == sum(counts.values())
        assert {name: its["count"] for name, its in status["letters"]["by_name"].items()} == counts
        assert status["letters"]["redriving"] == 0
        assert_balanced(self.bus)
        for owed in self.owed:
            is_kept = owed[1] in self.letters[owed[0]] or owed in self.dropped
            assert is_kept or self.handled[owed], f"{owed} was lost"

    async def live(self) -> None:
        await self.begin()
        steps = [self.publish] * 3 + [self.redrive] * 3
        steps += [self.drop, self.replace, self.mend_or_break, self.mend_or_break, self.restart, self.crash]
        for _ in range(STEPS):
            step = self.chance.choice(steps)
            self.told.append(step.__name__)
            await step()
            self.check()
        for name in NAMES:
            self.broken[name] = False
            if name not in self.handlers:
                self.subscribe(name)
        await self.bus.join()
        if self.bus.dead_letters():
            self.bus.admin.redrive()
        await self.bus.join()
        assert self.bus.dead_letters() == [], "all were redriven, and nothing fails"
        await self.bus.stop()
        if self.disk is not None:
            assert self.disk.journal.buried() == []


def _id(payload: bytes) -> str:
    return payload.split(b'"event_id":"')[1].split(b'"')[0].decode()


@pytest.mark.parametrize("kind", ["none", "memory", "sqlite"])
@pytest.mark.parametrize("seed", range(6))
def test_letters_are_where_a_plain_model_has_them(seed: int, kind: str, tmp_path: Path):
    disk = None if kind == "none" else Disk(kind, tmp_path / "journal")

    @virtual
    async def go() -> None:
        life = Life(seed, disk)
        try:
            await life.live()
        except BaseException as error:
            error.add_note(f"seed {seed}: {life.told}")
            raise

    go()
    if disk is not None:
        disk.close()
