"""Explaining the events of a journal: opened once, asked as often as one likes."""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from openoutcry.errors import ConfigError, UnknownReference
from openoutcry.journals.desks import desk_in, named
from openoutcry.journals.engines import EngineName
from openoutcry.journals.lineage.explaining import Tracer, decides
from openoutcry.journals.lineage.explanation import Explanation
from openoutcry.journals.lineage.finding import Finder, Found, Source, is_before
from openoutcry.journals.lineage.gaps import Gaps
from openoutcry.journals.lineage.index import Index, Tell
from openoutcry.journals.lineage.keys import REFERENCE, ROUND, TRADED
from openoutcry.journals.lineage.orders import COPIES_MOST, ENDS, namesakes, newest_order
from openoutcry.journals.lineage.positions import explain_position
from openoutcry.journals.lineage.titles import came_title
from openoutcry.journals.reading import JournalReader
from openoutcry.printable import printable

REF_MOST: Final = 1_000
_PLACE: Final = re.compile(r"#([0-9]{1,18})")
_POSITION: Final = "position:"
_ALONE: Final = ""
"""What a desk is called whose journal is read alone: no other is called so."""


class Indexed(msgspec.Struct, frozen=True, kw_only=True):
    """What an index has."""

    path: Path
    """The file of the index, whether it is used or not."""
    added: int
    """How many events were added."""
    position: int
    """Up to which position of the journal it has everything."""
    size_bytes: int
    """The size of the file; 0 if there is none."""
    why_no_file: str
    """Why everything is kept in memory instead, in words; empty if it is in the file."""


class Lineage:
    """What led to each event of a journal, and what came of it, by an index of its names.

    The index is a file beside the journal, `firm.db-lineage`, which is made and kept up by whoever asks,
    never by the bus. It can be deleted at any time; one that is damaged, or of another journal, is made
    again. Where it cannot be written, everything is kept in memory, which takes some seconds per million
    events at the first question.

    Not for several threads at once. Close it, or use it in a `with` block.

    Args:
        path: The journal's file, whether a bus writes to it or not.
        key: The key of a sealed journal. Without it nothing is held against the seals, and no file is used.
        engine: As in `PersistenceConfig`.
        journals: Other desks' journals, in which causes are followed.
        references: Fields of event classes of your own that name something, such as `("basket",)`, beside
            those whose names end with `_id`, `_ids`, `_ref` or `_refs`.

    Raises:
        JournalError: A journal cannot be read, in one of the ways that the subclasses name.
        ConfigError: Two of the journals are of one desk, or `references` is no list of names.

    """

    def __init__(
        self,
        path: str | Path,
        *,
        key: bytes | None = None,
        engine: EngineName = "auto",
        journals: Sequence[str | Path] = (),
        references: Iterable[str] = (),
    ) -> None:
        fields = _checked(references)
        with ExitStack() as stack:
            readers = [stack.enter_context(JournalReader(path, key=key, engine=engine))]
            for other in journals:
                reader = JournalReader(other, key=key, engine=engine)
                stack.enter_context(reader)
                if all(not reader.path.samefile(one.path) for one in readers):
                    readers.append(reader)
            desks = [desk.name for desk in named(map(desk_in, readers))] if len(readers) > 1 else [_ALONE]
            sources = []
            for desk, reader in zip(desks, readers, strict=True):
                index = Index(reader, key=key, is_sealed=reader.is_sealed, references=fields)
                stack.callback(index.close)
                sources.append(Source(desk, reader, index))
            self._finder = Finder(sources, fields)
            self._close = stack.pop_all()

    def index(self, tell: Tell | None = None) -> Indexed:
        """Bring the index up to date, and tidy it up; return what it has. `tell` hears of the progress.

        Raises `JournalCorrupt` at the first batch that is not what was written.
        """
        added = 0
        for source in self._finder.sources[::-1]:
            added = source.index.catch_up(tell)
            source.index.tidy()
        index = self._finder.sources[0].index
        try:
            size_bytes = index.path.stat().st_size
        except OSError:
            size_bytes = 0
        return Indexed(
            path=index.path,
            added=added,
            position=index.end,
            size_bytes=0 if index.why_no_file else size_bytes,
            why_no_file=index.why_no_file,
        )

    def explain(self, ref: str, *, forward: bool = False, tell: Tell | None = None) -> Explanation:
        """Return why something happened; with `forward` also what came of it.

        Args:
            ref: `#` and a position of the journal; the id of an event, an order, client order, execution,
                decision or round; or a symbol, or `position:` and a symbol, for what is held of it. What is
                a position is taken for that, and so on in this order. Of an order that was filled the last
                fill is explained, and of several orders of one name the last.
            forward: Whether to follow what came of it as well.
            tell: Hears of the progress where the index has to be made first.

        Raises:
            UnknownReference: The journal has nothing of that name.
            JournalCorrupt: A batch is not what was written.

        """
        with self._view(ref, tell):
            return self._explained(ref, forward=forward)

    def _explained(self, ref: str, *, forward: bool) -> Explanation:
        gaps = Gaps(self._finder)
        tracer = Tracer(self._finder, ref, gaps)
        if ref.startswith(_POSITION):
            return explain_position(self._finder, tracer, gaps, ref.removeprefix(_POSITION))
        found = self._resolved(ref)
        if found is None:
            if self._finder.of(TRADED, ref, 1):
                return explain_position(self._finder, tracer, gaps, ref)
            raise self._unknown(ref)
        target, first, ordinal = found
        explained = tracer.explain(target, ordinal)
        if target.event_id != ref and (more := namesakes(self._finder, ref, target)):
            explained = msgspec.structs.replace(explained, summary=f"{more} {explained.summary}".strip())
        if not forward:
            return explained
        came_of = tracer.came_of(first)
        return msgspec.structs.replace(
            explained, title=came_title(first), came_of=came_of, unknown=gaps.told()
        )

    def find(self, ref: str, *, tell: Tell | None = None) -> int:
        """Return the position of the event that a name means, in the journal that is asked.

        Of a name that several events have, such as an order's, it is the first of them. Raises
        `UnknownReference` as `explain` does, also where it stands in another desk's journal alone.
        """
        with self._view(ref, tell):
            found = self._resolved(ref)
        if found is None or found[1].source is not self._finder.sources[0]:
            raise self._unknown(ref)
        return found[1].entry.position

    # -- what is meant ------------------------------------------------------------------------------

    @contextmanager
    def _view(self, ref: str, tell: Tell | None) -> Iterator[None]:
        """Bring the indexes up to date, if that can be a name at all, and look at them as they are then."""
        if not isinstance(ref, str) or not ref or len(ref) > REF_MOST:
            raise UnknownReference(
                f"{printable(str(ref)[:80])!r}: name an event, order or round in 1 to {REF_MOST:,} characters"
            )
        with ExitStack() as stack:
            for source in self._finder.sources:
                source.forget()
                stack.enter_context(source.index.view(tell))
            yield

    def _resolved(self, ref: str) -> tuple[Found, Found, int | None] | None:
        """Return the event to explain, the one to follow on from, and which use of its round is meant."""
        place = _PLACE.fullmatch(ref)
        if place is not None and (found := self._finder.at(int(place[1]))) is not None:
            return self._as_round(found)
        event = self._finder.event(ref)
        if event is not None:
            return self._as_round(event)
        some = self._finder.of(REFERENCE, ref, COPIES_MOST)
        if some:
            return self._outcome(some), some[0], None
        record = self._finder.event(f"round:{ref}") or self._finder.event(f"round:{ref}:opened")
        if record is not None:
            return self._as_round(record)
        some = self._finder.of(ROUND, ref, COPIES_MOST)
        return (next(filter(decides, some), some[-1]), some[0], None) if some else None

    def _as_round(self, found: Found) -> tuple[Found, Found, int | None]:
        """Return the decision that was made of a round, where the event is a record of such a round."""
        round_id = found.head.round_id
        if found.event_type not in ("round_released", "round_opened") or not round_id:
            return found, found, None
        ordinal = found.fields.get("ordinal")
        votes = found.fields.get("votes")
        ids = {str(vote[2]) for vote in votes} if isinstance(votes, list) else set()
        uses = 1 if not isinstance(ordinal, int) else ordinal
        for one in self._finder.of(ROUND, round_id, COPIES_MOST):
            bases = one.bases()
            if decides(one) and (
                not ids.isdisjoint(bases) if bases else one.entry.wall_ns >= found.entry.wall_ns
            ):
                return one, found, uses
        return found, found, uses

    def _outcome(self, some: list[Found]) -> Found:
        """Return what became of an order, of the events that name it: its last fill, its end, or itself."""
        order = newest_order(some)
        order_id = None if order is None else order.fields.get("order_id")
        if order is not None and isinstance(order_id, str):
            own = self._finder.of(REFERENCE, order_id, COPIES_MOST)
            some = [order, *(one for one in own if is_before(order, one))]
        return min(reversed(some), key=_rank)

    def _unknown(self, ref: str) -> UnknownReference:
        reader = self._finder.sources[0].reader
        gone = "" if reader.first == 1 else f"; what stood before #{reader.first} is no longer kept"
        return UnknownReference(
            f"{reader.path} has no event, order, execution, decision, round or position of the name "
            f"{printable(ref[:80])!r}{gone}; see `openoutcry tail {reader.path}` for ids"
        )

    def close(self) -> None:
        """Let go of the files. Harmless when done twice."""
        self._close.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _rank(found: Found) -> int:
    kind = found.event_type
    if kind == "fill":
        return 0
    if kind == "order_state_change" and found.fields.get("to_state") in ENDS:
        return 1
    return {"order": 2, "validated_decision": 3, "transaction_report": 5}.get(kind, 4)


def _checked(references: Iterable[str]) -> frozenset[str]:
    if isinstance(references, str) or not all(isinstance(name, str) and name for name in references):
        raise ConfigError(
            f"references is {references!r}; it must be a list of fields of events, such as ('basket',)"
        )
    return frozenset(references)
