"""Puts the page together and writes it."""

from functools import cache
from html import escape
from importlib import resources
from pathlib import Path

from openoutcry.firm.report import parts
from openoutcry.firm.results import Results
from openoutcry.firm.summary import CAVEAT, headline, verdict

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def write_report(results: Results, path: Path) -> None:
    """Write the report as one self-contained HTML file, and make its folder. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(results), encoding="utf-8")


def render(results: Results) -> str:
    """Return the whole page."""
    title, _, rest = verdict(results).partition(";")
    body = "".join(
        (
            f'<header><p class="kicker">openoutcry demonstration</p><h1>{_unbroken(title.rstrip("."))}</h1>',
            f'<p class="lede">{escape(headline(results))}.{escape(_sentence(rest))}</p>',
            parts.key_facts(results),
            f'<p class="note caveat">{escape(CAVEAT)}</p></header>',
            parts.chaos(results),
            parts.money(results),
            parts.symbols(results),
            parts.rounds(results),
            parts.desk(results),
            parts.bus(results),
        )
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<link rel="icon" href="data:,">'
        f"<title>openoutcry demonstration: {escape(title)}</title><style>{_style()}</style></head>"
        f"<body><main>{body}<footer>{_footer()}</footer></main></body></html>\n"
    )


@cache
def _style() -> str:
    return (resources.files("openoutcry.firm.report") / "style.css").read_text(encoding="utf-8")


def _sentence(words: str) -> str:
    words = words.strip()
    return f" {words[0].upper()}{words[1:]}" if words else ""


def _unbroken(title: str) -> str:
    return escape(title).replace("buy-and-hold", '<span class="whole">buy-and-hold</span>')


def _footer() -> str:
    return (
        "Prices: public-domain daily bars of 2000 to 2013, adjusted for splits and dividends. "
        "The file is self-contained: it loads nothing and runs no script."
    )
