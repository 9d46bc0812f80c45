"""A consumer of a log: signs of life wake nobody, and silence ends the reading."""

import asyncio
from types import SimpleNamespace
from typing import Any

from openoutcry.links.nats.reading import Consumer
from openoutcry.testing import run_virtual


class Line:
    """A connection and a JetStream that do what is asked, and keep what the consumer hears with."""

    inbox = "_in"

    def __init__(self) -> None:
        self.hear: Any = None

    async def listen(self, _subject: str, hear: Any, _lose: Any) -> None:
        self.hear = hear

    async def forget(self, _heard: Any) -> None:
        return

    async def publish(self, _subject: str, _data: bytes) -> None:
        return

    async def call(self, _subject: str, _asked: Any) -> dict[str, Any]:
        return {"num_pending": 0}


def sign_of_life(last: int, **more: str) -> Any:
    headers = {"Status": "100", "Nats-Last-Consumer": str(last), **more}
    return SimpleNamespace(subject="", reply="", data=b"", headers=headers)


def a_message(number: int) -> Any:
    reply = f"$JS.ACK.stream.consumer.1.{number}.{number}.0.0"
    return SimpleNamespace(subject="s", reply=reply, data=b"%d" % number, headers=None)


async def begun(line: Any) -> tuple[Any, "asyncio.Task[Any]"]:
    """The messages of a consumer that is there, and a task that waits for the next."""
    messages = Consumer(line, line, "stream", "one").messages("s", 0, headers_only=False)
    assert await anext(messages) is None
    waiting = asyncio.ensure_future(anext(messages, "over"))
    await asyncio.sleep(0)
    return messages, waiting


def test_a_log_is_read_on_for_as_long_as_it_says_that_it_is_there() -> None:
    async def main() -> None:
        line = Line()
        messages, waiting = await begun(line)
        for _ in range(8):
            await asyncio.sleep(1)
            line.hear(sign_of_life(0))
        assert not waiting.done()
        line.hear(a_message(1))
        assert (await waiting).data == b"1"
        await messages.aclose()

    run_virtual(main())


def test_a_log_that_is_silent_is_read_anew() -> None:
    async def main() -> None:
        messages, waiting = await begun(Line())
        assert await waiting == "over"
        await messages.aclose()

    run_virtual(main())


def test_a_sign_of_life_that_names_a_later_message_than_the_last_has_the_log_read_anew() -> None:
    async def main() -> None:
        line = Line()
        messages, waiting = await begun(line)
        line.hear(sign_of_life(3))
        assert await waiting == "over"
        await messages.aclose()

    run_virtual(main())
