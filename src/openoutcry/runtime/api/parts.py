"""The parts of a bus that a replay brings its own of; everybody else has these."""

from collections.abc import Callable
from dataclasses import dataclass

from openoutcry.core.barrier import Round
from openoutcry.runtime.admission.gate import Admission
from openoutcry.runtime.delivery.tape import MailboxKind
from openoutcry.runtime.delivery.threads import ThreadKind, usual_thread


@dataclass(frozen=True, slots=True)
class Parts:
    """What a bus is made of.

    Attributes:
        admission: Makes its admission, from what `Admission` takes.
        new_round: Makes the state machine of each of its rounds, from what `Round` takes.
        mailboxes: Makes the mailboxes of its subscriptions; None: they are the usual ones.
        threads: Makes the threads in which its `blocking=True` handlers are called.

    """

    admission: Callable[..., Admission] = Admission
    new_round: Callable[..., Round] = Round
    mailboxes: MailboxKind | None = None
    threads: ThreadKind = usual_thread


USUAL = Parts()
"""The parts of every bus that does not replay."""
