"""What the browser is given: others' files as they were published, ours without anything that a CSP must stop."""

import gzip
import re
import shutil
import tomllib
from pathlib import Path

import pytest
from scripts.vendor import LIST, VENDOR, check, vendored

ROOT = Path(__file__).resolve().parents[2]
STATIC = VENDOR.parent
RAW_BYTES_MAX = 200_000
COMPRESSED_BYTES_MAX = 64_000
OURS = sorted(path for path in STATIC.rglob("*") if path.is_file() and VENDOR not in path.parents)
SENT = [*OURS, *sorted(VENDOR.glob("*.js")), *sorted(VENDOR.glob("*.css"))]
LICENCES = {"MIT": "without restriction, including without limitation", "Apache-2.0": "Apache License"}

NAMESPACES = re.compile(r"https?://www\.w3\.org/[\w/]+")
HOST = re.compile(r"(?:https?|wss?):\\?/\\?/|[\"'(]//[\w-]+\.")
FORBIDDEN = {
    ".html": r"<style|\sstyle\s*=|\son\w+\s*=|javascript:|<script(?![^>]*\ssrc=)|importmap|<base",
    ".js": r"\b(?:inner|outer)HTML\b|insertAdjacentHTML|dangerouslySetInnerHTML|document\.write|\beval\s*\(|new Function"
    r"|javascript:|createContextualFragment|DOMParser|srcdoc|\bsetTimeout\s*\(\s*[\"'`]|[\"'`]on[a-z]+[\"'`]\s*,",
    ".css": r"@import|expression\(|url\((?!\s*[\"']?data:image/)",
}


def name_of(path: Path) -> str:
    return path.relative_to(STATIC).as_posix()


def test_the_vendored_files_are_those_that_were_published():
    assert check() == []


@pytest.mark.parametrize("name", [file.name for file in vendored()])
def test_a_changed_byte_of_a_vendored_file_is_found(name, tmp_path):
    folder = tmp_path / "vendor"
    shutil.copytree(VENDOR, folder)
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    (mistake,) = check(folder)
    assert mistake.startswith(f"{name} is not ")


def test_a_file_that_is_not_listed_or_not_there_is_found(tmp_path):
    folder = tmp_path / "vendor"
    shutil.copytree(VENDOR, folder)
    (folder / "more.js").touch()
    (folder / "htm.js").unlink()
    assert check(folder) == [
        f"more.js is not listed in {LIST}",
        f"htm.js is listed in {LIST} and not here",
    ]


def test_a_replacement_that_was_undone_is_found(tmp_path):
    folder = tmp_path / "vendor"
    shutil.copytree(VENDOR, folder)
    hooks = (folder / "hooks.js").read_text(encoding="utf-8")
    (folder / "hooks.js").write_text(hooks.replace("./preact.js", "preact"), encoding="utf-8")
    assert check(folder) == ["hooks.js should hold 'from\"./preact.js\"' once"]


def test_the_package_is_under_its_own_licence_and_those_of_what_it_contains():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    contained = {
        package["licence"]
        for package in tomllib.loads((VENDOR / LIST).read_text(encoding="utf-8"))["package"]
    }
    assert set(project["license"].split(" AND ")) == {"Apache-2.0", *contained}
    texts = {path for pattern in project["license-files"] for path in ROOT.glob(pattern)}
    assert texts == {ROOT / "LICENSE", *VENDOR.glob("*.LICENSE")}


def test_every_package_comes_with_its_licence():
    for package in tomllib.loads((VENDOR / LIST).read_text(encoding="utf-8"))["package"]:
        (name,) = [file["name"] for file in package["file"] if file["source"] == "LICENSE"]
        assert LICENCES[package["licence"]] in (VENDOR / name).read_text(encoding="utf-8")


def test_all_that_a_browser_loads_is_small():
    sizes = {name_of(path): path.stat().st_size for path in SENT}
    compressed = {
        name_of(path): len(gzip.compress(path.read_bytes(), compresslevel=9, mtime=0)) for path in SENT
    }
    assert sum(sizes.values()) <= RAW_BYTES_MAX, sizes
    assert sum(compressed.values()) <= COMPRESSED_BYTES_MAX, compressed


@pytest.mark.parametrize("path", SENT, ids=name_of)
def test_no_file_names_another_host(path):
    text = NAMESPACES.sub("", path.read_text(encoding="utf-8"))
    assert not HOST.findall(text)


@pytest.mark.parametrize("path", OURS, ids=name_of)
def test_no_file_of_ours_makes_markup_from_text_or_has_code_inline(path):
    assert path.suffix in FORBIDDEN, "what is it, and is it needed?"
    assert re.findall(FORBIDDEN[path.suffix], path.read_text(encoding="utf-8"), re.IGNORECASE) == []


@pytest.mark.parametrize(
    ("suffix", "planted"),
    [
        (".html", "<script>alert(1)</script>"),
        (".html", '<script type="importmap">{}</script>'),
        (".html", "<style>p { color: red }</style>"),
        (".html", '<p style="color: red">'),
        (".html", '<img src="x" onerror="alert(1)">'),
        (".html", '<a href="javascript:alert(1)">'),
        (".js", "node.innerHTML = text"),
        (".js", "html`<p dangerouslySetInnerHTML=${{ __html: text }} />`"),
        (".js", "document.write(text)"),
        (".js", "eval (text)"),
        (".js", "new Function(text)"),
        (".js", 'node.setAttribute("onclick", text)'),
        (".js", 'setTimeout("alert(1)", 5)'),
        (".css", '@import "other.css"'),
        (".css", "p { background: url(/track.png) }"),
    ],
)
def test_the_rules_see_what_is_planted(suffix, planted):
    assert re.search(FORBIDDEN[suffix], planted, re.IGNORECASE)


@pytest.mark.parametrize(
    "planted", ['fetch("https://example.org/")', 'import "//cdn.example.org/x.js"', "url(//cdn.example.org)"]
)
def test_the_rule_about_hosts_sees_what_is_planted(planted):
    assert HOST.search(planted)
