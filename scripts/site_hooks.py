"""What the site needs beside the pages in docs/: the repository's own pages, links that lead out of docs/.

Pages can be read in the repository as well, so their links are paths there. mkdocs calls these functions.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
OWN_PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "campaigns/README.md": "campaigns.md",
}
"""Pages outside of docs/ that the site has, and where."""
SOUGHT = {"howto/": 2.0, "decisions/": 0.5, "changelog": 0.5, "campaigns": 0.5}
"""Which pages the search shows earlier or later than others."""
LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#]*)(#[^)\s]*)?\)")
CODE = re.compile(r"`[^`]+`")
"""Where a bar in a table is none of its lines, so that it needs no escape on the site, and would show it."""
SHORT = re.compile(r"<code>([^<]{0,12}-[^<]{0,20})</code>")
"""Code that may stay on one line, where an option must not break after its hyphens."""
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def on_config(config: Any) -> Any:
    """List every decision in the navigation, under the page that lists them."""
    decisions = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    pages = ["decisions/README.md", *(f"decisions/{page.name}" for page in decisions)]
    for part in config.nav:
        for entry in next(iter(part.values())):
            if isinstance(entry, dict) and "Decisions" in entry:
                entry["Decisions"] = pages
    return config


def on_files(files: Files, *, config: Any) -> Files:
    """Add the repository's own pages."""
    for source, place in OWN_PAGES.items():
        files.append(File.generated(config, place, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """Lead the links of a page to where the site has their targets, and say how early a search shows it."""
    del config, files
    place = page.file.src_uri
    boosts = [boost for start, boost in SOUGHT.items() if place.startswith(start)]
    page.meta.update({"search": {"boost": boosts[0]}} if boosts else {})
    source = next((name for name, own in OWN_PAGES.items() if own == place), f"docs/{place}")
    pieces, end = [], 0
    for fence in FENCE.finditer(markdown):
        pieces += [site_text(markdown[end : fence.start()], source, place), fence[0]]
        end = fence.end()
    return "".join([*pieces, site_text(markdown[end:], source, place)])


def on_page_content(html: str, **_others: Any) -> str:
    """Mark short code with hyphens, which the style sheet keeps on one line."""
    return SHORT.sub(r'<code class="short">\1</code>', html)


def site_text(text: str, source: str, place: str) -> str:
    """Return the prose of the page `source`, at `place` on the site, as the site's Markdown has it."""
    row = re.compile(r"^\|.*$", re.MULTILINE)
    rows = row.sub(lambda row: CODE.sub(lambda code: code[0].replace("\\|", "|"), row[0]), text)
    return site_links(rows, source, place)


def site_links(text: str, source: str, place: str) -> str:
    """Return the text of the page `source`, at `place` on the site, with links to the site's pages."""

    def site_link(link: re.Match[str]) -> str:
        shown, path, anchor = link[1], link[2], link[3] or ""
        if not path or "://" in path or path.startswith("mailto:"):
            return link[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        found = target_on_site(target)
        if found is None:
            return shown
        return f"[{shown}]({posixpath.relpath(found, posixpath.dirname(place) or '.')}{anchor})"

    return LINK.sub(site_link, text)


def target_on_site(target: str) -> str | None:
    """Return where the site has a file of the repository."""
    if target == "README.md":
        return "index.md"
    if target in OWN_PAGES:
        return OWN_PAGES[target]
    if target.startswith("docs/"):
        place = target.removeprefix("docs/")
        return f"{place}/README.md" if (ROOT / target).is_dir() else place
    return None
