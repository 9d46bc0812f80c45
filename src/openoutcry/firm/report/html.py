"""Small pieces of HTML: tables, figures, sections. All text that comes in is escaped."""

from collections.abc import Iterable, Sequence
from html import escape


def section(title: str, *inside: str, note: str = "") -> str:
    """Return a section with a heading and, under it, a note."""
    words = f'<p class="note">{escape(note)}</p>' if note else ""
    return f"<section><h2>{escape(title)}</h2>{words}{''.join(inside)}</section>"


def figure(picture: str, caption: str = "", legend: str = "") -> str:
    """Return a figure with a caption and a legend."""
    words = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure>{picture}{legend}{words}</figure>"


def table(
    caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]], words: Sequence[int] = ()
) -> str:
    """Return a table whose first cells name the rows. Columns hold figures, except those in `words`."""
    kinds = ["", *(' class="word"' if place in words else ' class="num"' for place in range(1, len(heads)))]
    top = "".join(
        f'<th scope="col"{kind}>{escape(head)}</th>' for head, kind in zip(heads, kinds, strict=True)
    )
    body = "".join(f"<tr>{_row(row, kinds)}</tr>" for row in rows)
    name = escape(caption)
    return (
        f'<p class="caption">{name}</p><div class="scroll" tabindex="0" role="region" aria-label="{name}">'
        f'<table aria-label="{name}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _row(row: Sequence[str], kinds: Sequence[str]) -> str:
    name, *cells = row
    rest = "".join(f"<td{kind}>{escape(cell)}</td>" for cell, kind in zip(cells, kinds[1:], strict=True))
    return f'<th scope="row">{escape(name)}</th>{rest}'


def facts(entries: Iterable[tuple[str, str, str, str]]) -> str:
    """Return a strip of key figures: name, value, a word under it, and a style class for the value."""
    items = "".join(
        f"<div><dt>{escape(name)}</dt>"
        f'<dd class="{kind}">{escape(value)}<small>{escape(under)}</small></dd></div>'
        for name, value, under, kind in entries
    )
    return f'<dl class="facts">{items}</dl>'
