"""Rounds for the page: from the journal's records, or those that the page has seen released."""

from collections.abc import Iterable
from typing import Any, Final

from openoutcry.dashboard.journal_file import JournalFile
from openoutcry.dashboard.refusals import Parameters, Refused
from openoutcry.journals.rounds import STATUSES, RecordedRound, RoundCell, RoundsPage, rounds_before
from openoutcry.observers.pulse import Cell, RoundRow

PAGE: Final = 50
PAGE_MAX: Final = 200
LOOKS_MAX: Final = 50
"""One round is searched for in so many pieces, between which others have their turn."""


class WantedRounds:
    """Which rounds are asked for."""

    def __init__(self, asked: Parameters) -> None:
        self.agent = asked.text("agent")
        self.status = asked.text("status")
        self.symbol = asked.text("symbol")
        self.since_ns = asked.maybe_number("since")
        self.until_ns = asked.maybe_number("until")
        self.before = asked.maybe_number("before", least=1)
        self.limit = asked.number("limit", PAGE, least=1, most=PAGE_MAX)
        if self.status is not None and self.status not in STATUSES:
            raise Refused(400, f"status = {self.status[:40]!r}: it is one of {', '.join(STATUSES)}")


async def recorded(file: JournalFile, wanted: WantedRounds) -> dict[str, Any]:
    """Return the next older rounds of a journal, as many as there was time for."""
    page = await look_back(file, wanted)
    rows = [_row(found, place) for found, place in zip(page.rounds, page.places, strict=True)]
    return {"rounds": rows, "agents": _agents(rows), "next": page.next, "scanned": page.scanned}


async def look_back(file: JournalFile, wanted: WantedRounds) -> RoundsPage:
    """Return the next older rounds of a journal as they are, as many as there was time for."""
    return await file.look(
        lambda reader, deadline: rounds_before(
            reader,
            wanted.before,
            agent=wanted.agent,
            status=wanted.status,
            symbol=wanted.symbol,
            since_ns=wanted.since_ns,
            until_ns=wanted.until_ns,
            limit=wanted.limit,
            is_late=lambda: deadline.is_over,
        )
    )


async def recorded_round(file: JournalFile, round_id: str, before: int | None) -> dict[str, Any]:
    """Return the newest round of an id, with its votes, its terms, and how it ended in words."""
    return _in_full(*await find_round(file, round_id, before))


async def find_round(
    file: JournalFile, round_id: str, before: int | None = None
) -> tuple[RecordedRound, int]:
    """Return the newest round of an id, and where it was released; if it was not, where it was opened."""
    for _ in range(LOOKS_MAX):
        at = before
        page = await file.look(
            lambda reader, deadline, at=at: rounds_before(  # type: ignore[misc]
                reader, at, round_id=round_id, limit=1, is_late=lambda: deadline.is_over
            )
        )
        if page.rounds:
            return page.rounds[0], page.places[0]
        if page.next is None:
            raise Refused(404, f"the journal has no round {round_id[:100]!r}")
        before = page.next
    raise Refused(503, f"no round {round_id[:100]!r} was found behind position {before}: ask for older ones")


def remembered(rounds: Iterable[RoundRow], wanted: WantedRounds) -> dict[str, Any]:
    """Return the rounds that the page has seen being released, the newest first."""
    rows = [
        {name: getattr(row, name) for name in row.__struct_fields__}
        for row in rounds
        if wanted.agent in (None, *row.cells)
        and wanted.status in (None, row.status)
        and (wanted.symbol is None or any(wanted.symbol in cell for cell in row.cells.values()))
    ]
    rows = rows[::-1][: wanted.limit]
    return {"rounds": rows, "agents": _agents(rows), "next": None, "scanned": len(rows)}


def _agents(rows: list[dict[str, Any]]) -> list[str]:
    """Return the agents of some rounds, in the order of the newest roster, older ones behind."""
    return list(dict.fromkeys(agent for row in rows for agent in row["cells"]))


def _row(found: RecordedRound, place: int) -> dict[str, Any]:
    return {
        "number": place,
        "pos": place,
        "id": found.round_id,
        "ordinal": found.ordinal,
        "opened_wall_ns": found.opened_wall_ns,
        "opened_by": found.opened_by,
        "symbol": found.symbol,
        "took_ns": found.took_ns,
        "status": found.status,
        "valid": found.valid,
        "reason": found.reason,
        "cells": {cell.agent: _cell(cell) for cell in found.cells},
    }


def _in_full(found: RecordedRound, place: int) -> dict[str, Any]:
    """Return a round as in a list, with everything that the journal has of it."""
    said = found.to_dict()
    return {
        **said,
        **_row(found, place),
        "roster": [cell.agent for cell in found.cells],
        "critical": [cell.agent for cell in found.cells if cell.is_critical],
        "quorum": found.quorum_count,
        "explain": said["explanation"],
        "agents": said["cells"],
    }


def _cell(cell: RoundCell) -> Cell:
    """Return what became of an agent, as a pulse says it."""
    if cell.how == "voted":
        vote = cell.votes[-1]
        return ["voted", vote.after_ns, vote.direction, vote.confidence, vote.symbol]
    if cell.how == "abstained":
        return ["abstained", cell.reason]
    if cell.how == "late":
        return ["late", cell.late_ns]
    if cell.how == "stood in":
        return ["stood in", cell.stood_in[-1].round_id, cell.stood_in[-1].age_ns]
    return ["missing", cell.heartbeat_ns]
