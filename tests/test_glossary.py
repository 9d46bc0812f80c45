"""The glossary holds: its modules exist, the runtime's classes use its words, and dropped words do not come back."""

import ast
import importlib.util
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src" / "openoutcry"
GLOSSARY = ROOT / "docs" / "glossary.md"
NOT_READ = {GLOSSARY, ROOT / "docs" / "benchmarks.md"}  # (benchmarks: the floor is their own word)
PAGES = sorted(
    {*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "campaigns" / "README.md"} - NOT_READ
)
CODE = sorted(SRC.rglob("*.py"))
TEXT_TOKENS = {tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}


@dataclass(frozen=True)
class Dropped:
    """A row of the table of dropped words."""

    phrase: str
    is_names_only: bool
    allowed: tuple[str, ...]

    @property
    def pattern(self) -> str:
        return rf"\b{re.escape(self.phrase)}(?:s|es)?\b"


def section(title: str) -> str:
    text = GLOSSARY.read_text(encoding="utf-8")
    assert f"\n## {title}\n" in text
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    found = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in text.splitlines()
        if line.startswith("| ")
    ]
    return [[cell.rstrip(" |") for cell in row] for row in found]


def entries() -> list[tuple[str, str, list[str]]]:
    """The explained words: the word, its meaning, the modules where it lives."""
    table = rows(GLOSSARY.read_text(encoding="utf-8").partition("\n## Dropped words\n")[0])
    return [
        (row[0].strip("*"), row[1], re.findall(r"`([a-z_.]+)`", row[2]))
        for row in table
        if row[0].startswith("**")
    ]


def dropped_words() -> list[Dropped]:
    found = []
    for first, _, allowed in rows(section("Dropped words")):
        named = re.fullmatch(r"`([a-z' ]+)`( \(names only\))?", first)
        if named is not None:
            paths = tuple(
                path
                for path in re.findall(r"`([\w./-]+)`", allowed)
                if "/" in path or path.endswith((".py", ".md"))
            )
            found.append(Dropped(named[1], named[2] is not None, paths))
    return found


def plain(text: str) -> str:
    """Text as words: `snake_case` and `CamelCase` taken apart, in one line, lower case."""
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", text)
    return re.sub(r"[\s_*]+", " ", text.replace("\n    #", " ")).lower()


def tokens_of(path: Path) -> Iterator[tuple[int, str, bool]]:
    """Yield (line, text, whether it is a name); comments that follow each other are one text."""
    comment, began, last = "", 0, -2
    for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        if token.type == tokenize.COMMENT:
            if token.start[0] != last + 1:
                if comment:
                    yield began, comment, False
                comment, began = "", token.start[0]
            comment += " " + token.string.lstrip("# ")
            last = token.start[0]
        elif token.type == tokenize.NAME:
            yield token.start[0], token.string, True
        elif token.type in TEXT_TOKENS:
            yield token.start[0], token.string, False
    if comment:
        yield began, comment, False


@cache
def words_of(path: Path) -> tuple[tuple[int, str, str, bool], ...]:
    """What a file says: (line, as written, as plain words, whether it is a name)."""
    if path.suffix == ".py":
        return tuple((line, text, plain(text), is_name) for line, text, is_name in tokens_of(path))
    found, began, paragraph = [], 1, []
    for number, line in enumerate([*path.read_text(encoding="utf-8").splitlines(), ""], 1):
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            text = "\n".join(paragraph)
            found.append((began, text, plain(text), False))
        if not line.strip():
            began, paragraph = number + 1, []
    return tuple(found)


def name_of(path: Path) -> str:
    return path.relative_to(SRC if path.is_relative_to(SRC) else ROOT).as_posix()


def is_in(name: str, places: tuple[str, ...]) -> bool:
    return any(name == place or (place.endswith("/") and name.startswith(place)) for place in places)


def uses(word: Dropped, path: Path) -> list[str]:
    """Where a file uses a dropped word."""
    found = []
    for line, text, as_words, is_name in words_of(path):
        if word.is_names_only:
            if is_name and text == word.phrase.replace(" ", "_"):
                found.append(f"{name_of(path)}:{line}: {text}")
            continue
        for match in re.finditer(word.pattern, as_words):
            at = line + (0 if is_name else lines_before(text, word, as_words, match.start()))
            around = as_words[max(0, match.start() - 30) : match.end() + 30].strip()
            found.append(f"{name_of(path)}:{at}: {around}")
    return found


def lines_before(text: str, word: Dropped, as_words: str, start: int) -> int:
    """How many lines of a text lie before a match, by the share of words of the phrase's kind before it."""
    number = len(re.findall(word.pattern, as_words[:start]))
    first = re.escape(word.phrase.split()[0])
    starts = [m.start() for m in re.finditer(first, text, flags=re.IGNORECASE)]
    return text[: starts[min(number, len(starts) - 1)]].count("\n") if starts else 0


WORDS = dropped_words()


@pytest.mark.parametrize("word", WORDS, ids=lambda word: word.phrase)
def test_a_dropped_word_does_not_occur(word: Dropped) -> None:
    files = [path for path in (*CODE, *PAGES) if not is_in(name_of(path), word.allowed)]
    found = [use for path in files for use in uses(word, path)]
    assert found == [], f"{len(found)} uses of {word.phrase!r}; docs/glossary.md says what to say instead"


@pytest.mark.parametrize("word", [w for w in WORDS if w.allowed], ids=lambda word: word.phrase)
def test_an_exception_for_a_dropped_word_is_used(word: Dropped) -> None:
    unused = [
        place
        for place in word.allowed
        if not any(uses(word, path) for path in (*CODE, *PAGES) if is_in(name_of(path), (place,)))
    ]
    assert unused == []


def test_the_tables_are_read() -> None:
    assert len(entries()) > 100
    assert len(WORDS) > 20
    assert {word.phrase for word in WORDS} >= {"door", "crew", "hand", "tell whether"}


def test_no_word_is_explained_twice() -> None:
    words = [word for word, _, _ in entries()]
    assert sorted({word for word in words if words.count(word) > 1}) == []


def test_no_word_is_both_explained_and_dropped_everywhere() -> None:
    gone = {word.phrase for word in WORDS if not word.allowed}
    assert gone & {word for word, _, _ in entries()} == set()


@pytest.mark.parametrize(("word", "modules"), [(word, modules) for word, _, modules in entries()])
def test_the_modules_that_an_entry_names_exist(word: str, modules: list[str]) -> None:
    assert modules, f"{word} has no module"
    missing = [name for name in modules if importlib.util.find_spec(f"openoutcry.{name}") is None]
    assert missing == []


def vocabulary() -> set[str]:
    """The words that class names may be made of: those that the page explains or sets in italics, and ordinary ones."""
    explained = " ".join(word for word, _, _ in entries())
    italics = " ".join(re.findall(r"(?<!\*)\*([^*|]+)\*(?!\*)", GLOSSARY.read_text(encoding="utf-8")))
    ordinary = section("Ordinary words").partition(":")[2]
    return set(re.findall(r"[a-z]+", f"{explained} {italics} {ordinary}".lower()))


def runtime_classes() -> list[str]:
    return sorted(
        {
            node.name
            for path in sorted((SRC / "runtime").rglob("*.py"))
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
        }
    )


def is_known(word: str, known: set[str]) -> bool:
    return bool({word, f"{word}s", word.removesuffix("s"), word.removesuffix("d")} & known)


def test_the_classes_of_the_runtime_are_named_in_the_words_of_the_glossary() -> None:
    known = vocabulary()
    unknown = {
        name: [word for word in plain(name).split() if not is_known(word, known)]
        for name in runtime_classes()
    }
    assert {name: words for name, words in unknown.items() if words} == {}, (
        "explain the word in docs/glossary.md, or list it there under 'Ordinary words'"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ControlServer", "control server"),
        ("hand_in", "hand in"),
        ("Tell\n        whether", "tell whether"),
        ("a call *in hand*", "a call in hand"),
    ],
)
def test_words_are_found_in_every_spelling(text: str, words: str) -> None:
    assert plain(text) == words.replace("*", " ").strip() or words in plain(text)
