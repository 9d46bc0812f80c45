"""One browser for all tests of this folder, and a firm that they only look at; others end with their test."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from browser_kit import Firm, PageProcess, Tab, chromium, opened

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the tests of this folder run one after the other, last: what they share ends with the last of them.

    While the browser is there, no other test of this process could run a loop of its own.
    """
    items.sort(key=lambda item: HERE in item.path.parents)


@pytest.fixture(scope="package")
def browser() -> Iterator[object]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="package")
def shared_firm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firm]:
    """A firm that its tests only look at, with a very long event."""
    firm = Firm(tmp_path_factory.mktemp("firm"), "--long")
    try:
        yield firm.start()
    finally:
        firm.kill()


@pytest.fixture(scope="package")
def shared_page(shared_firm: Firm) -> Iterator[PageProcess]:
    page = PageProcess(shared_firm.journal, "--act")
    try:
        yield page
    finally:
        page.close()


@pytest.fixture
def firm(tmp_path: Path) -> Iterator[Firm]:
    """A firm that this test may do anything to."""
    made = Firm(tmp_path)
    try:
        yield made.start()
    finally:
        made.kill()


@pytest.fixture
def page(firm: Firm) -> Iterator[PageProcess]:
    started = PageProcess(firm.journal, "--act")
    try:
        yield started
    finally:
        started.close()


@pytest.fixture
def start_page() -> Iterator[Callable[..., PageProcess]]:
    """Start pages, which outlive the tabs of a test that asks for both in this order."""
    with ExitStack() as stack:

        def start(journal: Path, *options: str) -> PageProcess:
            page = PageProcess(journal, "--act", *options)
            stack.callback(page.close)
            return page

        yield start


@pytest.fixture
def open_tab(browser) -> Iterator[Callable[..., Tab]]:
    """Open tabs; at the end of the test each must have had nothing to complain of."""
    with ExitStack() as stack:
        yield lambda page, **how: stack.enter_context(opened(browser, page, **how))
