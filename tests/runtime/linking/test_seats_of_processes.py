"""Seats of real processes on a real server: stopped, killed, resumed."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from nats_kit import a_firm, a_link, opened

from openoutcry.ports import Seat

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]


class Child:
    """A desk as a process."""

    def __init__(self, servers, firm, path, lease_s=1.0):
        where = os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "desk_child.py"), servers.urls[0], firm, str(path), str(lease_s)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": where},
        )

    def __enter__(self):
        assert self.says() == "ready"
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def says(self):
        """The next line: it waits for it."""
        return self.process.stdout.readline().decode().strip()

    def says_at_last(self, word):
        """Read on until it says this."""
        while (line := self.says()) != word:
            assert line, f"it ended before it said {word}"


@pytest.fixture
def firm():
    return a_firm()


def test_a_holder_that_was_stopped_and_is_resumed_is_refused(one_node, firm, tmp_path):
    async def claim():
        async with opened(a_link(one_node, firm, "other")) as (transport,):
            before = (await transport.seats())[0].renewal
            await asyncio.sleep(2)
            (seen,) = await transport.seats()
            assert seen.renewal == before, "it is stopped, so that it renews nothing"
            return await transport.claim(Seat(desk="street", holder="another", lease_s=3600), seen)

    with Child(one_node, firm, tmp_path / "journal") as child:
        child.says_at_last("accepted")
        child.process.send_signal(signal.SIGSTOP)
        asyncio.run(claim())
        child.process.send_signal(signal.SIGCONT)
        child.says_at_last("SeatLost")

        async def holder():
            async with opened(a_link(one_node, firm, "other")) as (transport,):
                return (await transport.seats())[0].holder

        assert asyncio.run(holder()) == "another"


def test_a_second_process_of_that_name_ends_with_a_clear_error(one_node, firm, tmp_path):
    with Child(one_node, firm, tmp_path / "one") as first:
        first.says_at_last("accepted")
        with Child(one_node, firm, tmp_path / "two") as second:
            assert second.says() == "Taken"


def test_a_desk_that_was_killed_is_taken_over_at_once_on_this_host(one_node, firm, tmp_path):
    with Child(one_node, firm, tmp_path / "journal", 3600) as first:
        first.says_at_last("accepted")
        first.process.kill()
        first.process.wait()
    with Child(one_node, firm, tmp_path / "journal", 3600) as second:  # it would wait for an hour and more
        second.says_at_last("accepted")


@pytest.mark.parametrize("lease_s", [0, 3600])
def test_a_desk_that_was_killed_is_taken_over_at_once_with_another_journal(one_node, firm, tmp_path, lease_s):
    with Child(one_node, firm, tmp_path / "one", lease_s) as first:
        first.says_at_last("accepted")
        first.process.kill()  # nobody has asked how it ended: it is dead all the same
        while Path(f"/proc/{first.process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            os.sched_yield()
        with Child(one_node, firm, tmp_path / "two", lease_s) as second:
            second.says_at_last("accepted")


def test_a_desk_that_is_stopped_is_not_dead(one_node, firm, tmp_path):
    with Child(one_node, firm, tmp_path / "one", 0) as first:
        first.says_at_last("accepted")
        first.process.send_signal(signal.SIGSTOP)
        with Child(one_node, firm, tmp_path / "two", 0) as second:
            assert second.says() == "Taken"
