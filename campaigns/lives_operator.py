"""What an operator does between two lives, on the journal's file: renames, gives up, retires."""

from pathlib import Path

from campaigns.bus_plants import Bug
from campaigns.crash_kit import Tell, key_of
from campaigns.lives_plan import Order
from openoutcry.cli.journal.amending import drop_cursor, reassign_cursor
from openoutcry.journals import SqliteJournal


def carry_out(path: Path, order: Order, tell: Tell, plant: Bug) -> None:
    """Do it, and tell `there` if the journal knew the name."""
    plant()
    if path.exists():
        journal = SqliteJournal(path, key=key_of(path))
        if any(cursor.subscription == order.name for cursor in journal.cursors()):
            tell("there")
            if order.verb == "reassign":
                journal.write([], reassign_cursor(journal, order.name, order.new))
            elif order.verb == "drop":
                journal.write([], drop_cursor(journal, order.name))
            else:
                while journal.retire(keep_count=2, past_memory=[order.name]):
                    pass
        journal.close()
    tell("enough")
