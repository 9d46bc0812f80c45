"""The pages hang together: links lead somewhere, every decision has its parts, every page can be found."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
PAGES = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "campaigns" / "README.md"})
DECISION_LINES_MAX = 40
LONGER = {"0011-the-journal.md": 90, "0012-the-bus-and-its-journal.md": 60}


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def links(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings get where it is shown."""
    headings = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_link_leads_somewhere(page: Path) -> None:
    lost = []
    for link in links(page):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert lost == []


@pytest.mark.parametrize("page", DECISIONS, ids=name_of)
def test_a_decision_has_a_number_a_context_a_decision_and_consequences(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# {int(page.name[:4])}. ")
    parts = ("Context", "Decision", "Consequences")
    places = [
        min(
            (m.start() for m in re.finditer(rf"^(?:\*\*{part}\.\*\*|## {part}\n)", text, re.MULTILINE)),
            default=-1,
        )
        for part in parts
    ]
    assert -1 not in places, dict(zip(parts, places, strict=True))
    assert places == sorted(places)


@pytest.mark.parametrize("page", DECISIONS, ids=name_of)
def test_a_decision_is_short(page: Path) -> None:
    lines_count = len(page.read_text(encoding="utf-8").splitlines())
    assert lines_count <= LONGER.get(page.name, DECISION_LINES_MAX)


def test_every_decision_is_listed_under_its_own_title() -> None:
    index = (ROOT / "docs" / "decisions" / "README.md").read_text(encoding="utf-8")
    titles = [page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ") for page in DECISIONS]
    listed = re.findall(r"^- \[(.+)\]\((.+)\)$", index, flags=re.MULTILINE)
    assert listed == [(title, page.name) for title, page in zip(titles, DECISIONS, strict=True)]


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    todo = [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page in reached or page.suffix != ".md" or not page.is_file():
            continue
        reached.add(page)
        paths = [link.partition("#")[0] for link in links(page) if "://" not in link]
        todo += [
            found / "README.md" if (found := (page.parent / p).resolve()).is_dir() else found
            for p in paths
            if p
        ]
    assert [name_of(page) for page in PAGES if page not in reached] == []


README = ROOT / "README.md"
README_LINES_MAX = 120


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) < README_LINES_MAX


def test_the_twenty_lines_are_twenty() -> None:
    section = README.read_text(encoding="utf-8").partition("\n## Twenty lines\n")[2]
    code = section.partition("```python\n")[2].partition("\n```")[0]
    assert len(code.splitlines()) == 20


def test_a_picture_is_there_and_can_be_read_aloud() -> None:
    pictures = [
        (page, said, page.parent / path)
        for page in PAGES
        for said, path in re.findall(r"!\[(.*?)\]\(([^)]+)\)", prose(page))
    ]
    assert pictures
    for page, said, picture in pictures:
        assert picture.is_file(), page
        assert len(said.split()) > 10, page
