"""Compares two runs: books, fills, journals, and the books of the broker."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from openoutcry.events import RECORDS
from openoutcry.firm.brokerage import BrokerLedger
from openoutcry.firm.crash.autopsy import read_events
from openoutcry.firm.crash.words import Account, Fill
from openoutcry.firm.mandate import Mandate
from openoutcry.firm.money import Units, to_units
from openoutcry.journals import JournalReader, Problem, Verified
from openoutcry.trading import FillEvent

_PAGE = 10_000


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one run has left behind.

    Attributes:
        account: The firm's books at the end, as it wrote them.
        fills: Number and digest of the fills in those books.
        journal_fills: The same of the fill events in the journal; of several, of one that differs from the
            first, if there is one.
        broker_fills: The same of the executions in the broker's books.
        events: Number and digest of all events, in any order, each in the journal of the desk that made it.
        verified: The result of verifying the journals.
        repeats: How often an order was submitted that the broker already had.

    """

    account: Account
    fills: "Digest"
    journal_fills: "Digest"
    broker_fills: "Digest"
    events: "Digest"
    verified: "Checked"
    repeats: int


class Checked(NamedTuple):
    """The result of verifying one journal, or several: entries, their commits, and what is damaged."""

    entries: int
    batches: int
    problems: tuple[Problem, ...]


class Digest(NamedTuple):
    """A list in short: how many items it has, and the beginning of its SHA-256."""

    items: int
    digest: str

    def __str__(self) -> str:
        return f"{self.items:,}  {self.digest}"


class Finding(NamedTuple):
    """One line of the comparison."""

    name: str
    undisturbed: str
    killed: str
    same: bool


def gather(journals: Sequence[Path], broker: Path, account: Path) -> Evidence:
    """Read what a run has left behind."""
    books = msgspec.json.decode(account.read_bytes(), type=Account)
    with ExitStack() as stack:
        readers = [stack.enter_context(JournalReader(journal)) for journal in journals]
        filled = [
            _digest(_trade_in(event) for event in read_events(reader, "fill") if isinstance(event, FillEvent))
            for reader in readers
        ]
        events = _digest_of_events(readers)
        verified = [reader.verify() for reader in readers]
    with BrokerLedger(broker, Mandate()) as ledger:
        executions = ledger.executions()
        repeats = sum(order.repeats for order in ledger.orders())
    return Evidence(
        account=books,
        fills=_digest(_trade_of(fill) for fill in books.fills),
        journal_fills=next((other for other in filled if other != filled[0]), filled[0]),
        broker_fills=_digest(
            (f"fill:{one.execution_id}", one.symbol, one.side.value, one.shares, one.price, one.commission)
            for one in executions
        ),
        events=events,
        verified=_all_of(verified),
        repeats=repeats,
    )


def _all_of(verified: Sequence[Verified]) -> "Checked":
    return Checked(
        sum(one.entries for one in verified),
        sum(one.batches for one in verified),
        tuple(problem for one in verified for problem in one.problems),
    )


def compare(undisturbed: Evidence, killed: Evidence) -> list[Finding]:
    """Compare two runs, line by line."""
    one, other = undisturbed.account, killed.account
    money: list[tuple[str, Callable[[Account], Units]]] = [
        ("equity", lambda account: account.equity),
        ("profit and loss", lambda account: account.equity - account.capital),
        ("realised", lambda account: account.realised),
        ("commissions", lambda account: account.commissions),
        ("borrowing fees", lambda account: account.fees),
        ("cash", lambda account: account.cash),
    ]
    held = [{held.symbol: held for held in account.positions} for account in (one, other)]
    digests: list[tuple[str, Digest, Digest]] = [
        ("worth by the day", _digest(one.equity_by_day), _digest(other.equity_by_day)),
        ("fills in books", undisturbed.fills, killed.fills),
        ("fills in journal", undisturbed.journal_fills, killed.journal_fills),
        ("fills at broker", undisturbed.broker_fills, killed.broker_fills),
        ("bytes of events", undisturbed.events, killed.events),
    ]
    return [
        *(_finding(name, read(one), read(other), exactly) for name, read in money),
        *(
            _finding(f"holds {symbol}", held[0].get(symbol), held[1].get(symbol), _held)
            for symbol in sorted(held[0] | held[1])
        ),
        *(_finding(name, here, there, str) for name, here, there in digests),
    ]


def is_sound(evidence: Evidence) -> bool:
    """Return True if a run is sound: lists of fills agree, the books balance, nothing is damaged."""
    account = evidence.account
    return (
        evidence.fills == evidence.journal_fills == evidence.broker_fills
        and account.unbalanced == 0
        and not evidence.verified.problems
        and not (account.dead_letters or account.conflicts)
    )


def exactly(units: Units) -> str:
    """Return an amount as text, with two to four decimals, as many as it has."""
    whole, rest = divmod(abs(units), 10_000)
    decimals = f"{rest:04d}"
    return f"{'-' if units < 0 else ''}${whole:,}.{decimals[:2]}{decimals[2:].rstrip('0')}"


def _finding(name: str, one: Any, other: Any, write: Callable[[Any], str]) -> Finding:
    return Finding(name, write(one), write(other), one == other)


def _held(holding: Any) -> str:
    return "nothing" if holding is None else f"{holding.shares:,} for {exactly(holding.cost)}"


def _trade_of(fill: Fill) -> tuple[Any, ...]:
    return fill.fill_id, fill.symbol, fill.side, fill.shares, fill.price, fill.commission


def _trade_in(event: FillEvent) -> tuple[Any, ...]:
    price, commission = to_units(event.fill_price), to_units(event.commission)
    return event.event_id, event.symbol, event.side.value, int(event.filled_quantity), price, commission


def _digest(rows: Any) -> Digest:
    listed = list(rows)
    return Digest(len(listed), hashlib.sha256(msgspec.json.encode(listed)).hexdigest()[:16])


def _digest_of_events(readers: Sequence[JournalReader]) -> Digest:
    """Return a digest of all that was published, sorted: agents that work side by side write in any order."""
    payloads = (payload for reader in readers for payload in _payloads(reader))
    return _digest(sorted(hashlib.sha256(payload).hexdigest() for payload in payloads))


def _payloads(reader: JournalReader) -> Iterator[bytes]:
    """Yield what was published on this journal's bus; what it has from other desks is not that."""
    after = 0
    while page := reader.read(after, _PAGE):
        for entry in page:
            is_own = entry.header is None or entry.header.desk is None
            if is_own and entry.head().event_type not in RECORDS:
                yield entry.payload
        after = page[-1].position
