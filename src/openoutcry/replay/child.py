"""The process of a replay: `python -m openoutcry.replay.child`, with a request on standard input.

Each life of a journal runs in a fork, with a change twice: what it leaves in modules is not there any more.
"""

import logging
import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from openoutcry import errors
from openoutcry.errors import OpenOutcryError, RecordTooThin, ReplayError
from openoutcry.replay.apart import serve
from openoutcry.replay.app import load_app
from openoutcry.replay.branch import Knowledge
from openoutcry.replay.day import Day, NothingThen, read_life, recorded_app
from openoutcry.replay.effects import Denial, virtual_time
from openoutcry.replay.engine import control_here, replay_here, what_if_here
from openoutcry.replay.keeping import delete, must_be_new
from openoutcry.replay.lives import Lives
from openoutcry.replay.picking import app_of, picked, unread
from openoutcry.replay.process import Request
from openoutcry.replay.replayed import Replayed, ReplayedLife, together

T = TypeVar("T")


class _Run(msgspec.Struct, frozen=True):
    """What was found of one life; of a control also what is known of it."""

    replayed: Replayed
    known: Knowledge | None = None


class _Answer(msgspec.Struct, frozen=True):
    """What a fork answers: what it has found, or the class and the message of an error."""

    found: _Run | None = None
    error: str = ""
    message: str = ""


def main() -> None:
    """Answer the request."""
    logging.getLogger("openoutcry").setLevel(logging.CRITICAL)  # a replay tells what differs itself
    serve(Request, lambda asked: asked.app or recorded_app(Path(asked.path), asked.key), _replayed)


def _replayed(request: Request) -> Replayed:
    path, key = Path(request.path), request.key
    into = None if request.into is None else Path(request.into)
    if into is not None:
        must_be_new(into)  # before anything is run
    others = {name: load_app(other, Path.cwd()) for name, other in request.change.replace.items()}
    lives = Lives(path, key)
    numbers = picked(lives, request.life, request.from_ns, request.to_ns)
    again = _Again(request, lives, numbers)
    try:
        return again.change(others, into) if request.change else again.check(into)
    except BaseException:
        if into is not None:
            delete(into)
        raise


class _Again:
    """The lives that were asked for, each run in a copy of this process, so that modules are as they were."""

    def __init__(self, request: Request, lives: Lives, numbers: Sequence[int]) -> None:
        self._request = request
        self._lives = lives
        self._numbers = numbers
        self._unread: dict[int, ReplayedLife] = {}
        targets = {number: request.app or app_of(lives, number) for number in numbers}
        brokers = {number: lives.runs[number - 1].manifest.broker for number in numbers}
        names = {*targets.values(), *brokers.values()} - {""}
        loaded = {name: load_app(name, Path.cwd()) for name in sorted(names)}
        self._apps = {number: (loaded[target], target) for number, target in targets.items()}
        effects: dict[str, Any] = {"denial": Denial(), "own_time": virtual_time}
        self._how = {number: {"broker": loaded.get(name), **effects} for number, name in brokers.items()}

    def check(self, into: Path | None) -> Replayed:
        """Replay each life, and hold its agents against the record."""

        def run(day: Day, goes_on: bool) -> _Run:
            number, strict = day.life.number, self._request.strict
            how = {"strict": strict, "into": into, "goes_on": goes_on, **self._how[number]}
            return _Run(replay_here(day, *self._apps[number], **how))

        return together([one.replayed for one in self._each(run)], self._unread.values())

    def change(self, others: Mapping[str, Any], into: Path | None) -> Replayed:
        """Replay each life as it was, as a control; if all are identical, then each with the change."""

        def run_control(day: Day, _: bool) -> _Run:
            number = day.life.number
            return _Run(*control_here(day, *self._apps[number], **self._how[number]))

        controls = self._each(run_control)
        control = together([one.replayed for one in controls], self._unread.values())
        if not control.identical:
            return control
        by_number = {one.replayed.lives[0].number: one for one in controls}

        def run(day: Day, goes_on: bool) -> _Run:
            number = day.life.number
            control = by_number[number]
            assert control.known is not None, "it is a control"
            changed = what_if_here(
                day,
                *self._apps[number],
                self._request.change,
                control=control.replayed,
                known=control.known,
                joins=self._request.joins,
                others=others,
                into=into,
                goes_on=goes_on,
                **self._how[number],
            )
            return _Run(changed)

        return together([one.replayed for one in self._each(run)], self._unread.values())

    def _each(self, run: Callable[[Day, bool], "_Run"]) -> list["_Run"]:
        """Return what a function finds of each life. Raises `RecordTooThin` if nothing can be replayed."""
        found: list[_Run] = []
        for number in self._numbers:
            try:
                day = read_life(self._lives, number, from_ns=self._request.from_ns, to_ns=self._request.to_ns)
            except NothingThen:
                if number == self._numbers[-1] and not found:
                    raise
                continue
            except RecordTooThin as error:
                if len(self._numbers) == 1:
                    raise
                self._unread[number] = unread(self._lives, number, str(error))
                continue
            found.append(_in_a_fork(partial(run, day, bool(found))))
        if not found:
            raise RecordTooThin(next(iter(self._unread.values())).skipped)
        return found


def _told(target: str, run: Callable[[], T]) -> T:
    """Run what calls the app; what that raises becomes a `ReplayError`, its traceback is printed."""
    try:
        return run()
    except OpenOutcryError:
        raise
    except Exception as error:
        traceback.print_exc()
        raise ReplayError(f"{target} raised {type(error).__name__}: {error}") from error


def _in_a_fork(run: Callable[[], _Run]) -> _Run:
    """Return what a function returns in a process of its own, which is a copy of this one.

    Raises what it raised, and `ReplayError` if the process died.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        try:
            answer = _Answer(_told("the app", run))
        except OpenOutcryError as error:
            answer = _Answer(error=type(error).__name__, message=str(error))
        with os.fdopen(writing, "wb") as answers:
            answers.write(msgspec.json.encode(answer, enc_hook=str))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answers:
        data = answers.read()
    os.waitpid(child, 0)
    answer = msgspec.json.decode(data, type=_Answer) if data else _Answer(message="its process has died")
    if answer.found is not None:
        return answer.found
    raise getattr(errors, answer.error, ReplayError)(answer.message)


if __name__ == "__main__":
    main()
