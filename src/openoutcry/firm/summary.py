"""The summary at the end: the same sections for rich and for plain text."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import click

from openoutcry.firm.chaos import AFTERMATH_DAYS
from openoutcry.firm.figures import Figures
from openoutcry.firm.money import in_words, to_dollars
from openoutcry.firm.results import Results
from openoutcry.firm.trail import tell_step


class Section(NamedTuple):
    """A title, rows of cells (the first names the row), the heads of the columns if any, a closing remark."""

    title: str
    rows: Sequence[tuple[str, ...]]
    heads: tuple[str, ...] = ()
    remark: str = ""


def verdict(results: Results) -> str:
    """Return how the firm did compared with holding."""
    firm, held = results.firm, results.held
    gap = firm.end - held.end
    own = f"The firm {'made' if firm.profit >= 0 else 'lost'} {in_words(abs(firm.profit))}"
    if gap == 0:
        against = "and ended exactly where buy-and-hold did"
    elif gap > 0:
        against = f"and {'' if firm.profit >= 0 else 'still '}beat buy-and-hold by {in_words(gap)}"
    else:
        against = f"and lost to buy-and-hold by {in_words(-gap)}"
    fall = "shallower" if firm.max_drawdown < held.max_drawdown else "no shallower"
    falls = f"{firm.max_drawdown:.0%} against {held.max_drawdown:.0%}"
    return f"{own} {against}; its worst fall was {fall} ({falls})."


CAVEAT = (
    "Costs are included. The strategies are textbook toys, run on the past that the textbooks were written "
    "about, and five well-known survivors are no market. This shows what the bus does. It is not advice."
)


def sections(results: Results) -> Iterator[Section]:
    """Return the sections of the summary, in order."""
    yield _money(results)
    yield _by_symbol(results)
    yield _work(results)
    yield _bus(results)
    if results.house.plan is not None:
        yield from _chaos(results)
    if results.chain:
        steps = [tell_step(event) for event in results.chain]
        yield Section(
            "One trade, from bar to fill", steps, remark="Each step names the one before as its cause."
        )


def _figures_row(name: str, figures: Figures) -> tuple[str, ...]:
    return (
        name,
        in_words(figures.end),
        f"{figures.total_return:+.1%}",
        f"{figures.annual_return:+.1%}",
        f"{figures.sharpe:.2f}",
        f"-{figures.max_drawdown:.1%}",
    )


def _money(results: Results) -> Section:
    holding = ", ".join(results.holding.symbols)
    rows = [_figures_row("the firm", results.firm), _figures_row(f"hold {holding}", results.held)]
    return Section(
        f"Profit and loss on {in_words(results.firm.start)}",
        rows,
        ("", "ends with", "gain", "a year", "Sharpe", "worst fall"),
        verdict(results),
    )


def _by_symbol(results: Results) -> Section:
    rows = [
        (
            one.symbol,
            in_words(one.profit, signed=True),
            f"{one.fills_count:,}",
            f"{one.held.total_return:+.1%}",
            f"since {one.first_day}",
        )
        for one in results.symbols
    ]
    costs = results.house.firm.portfolio.book
    slippage = results.house.firm.broker.slippage
    return Section(
        "By symbol",
        rows,
        ("", "the firm made", "fills", "holding gained", ""),
        f"Costs: commissions {in_words(costs.commissions)}, slippage {in_words(slippage)}, "
        f"borrowed shares {in_words(costs.fees)}.",
    )


def _work(results: Results) -> Section:
    firm = results.house.firm
    tally, risk = firm.cio.tally, firm.risk
    statuses = ", ".join(f"{count:,} {status}" for status, count in tally.by_status.items())
    stopped = sum(firm.compliance.rejections.values())
    return Section(
        "From signal to fill",
        [
            ("rounds held", f"{tally.by_status.total():,}", statuses),
            ("signals", f"{tally.votes_count:,}", f"and {tally.abstentions_count:,} abstentions"),
            ("decisions", f"{firm.cio.decisions_count:,}", f"{tally.invalid_count:,} rounds were not valid"),
            (
                "risk",
                f"{risk.rejected_count:,} refused",
                f"{risk.cut_count:,} cut, {risk.stops_count:,} stops, {risk.halts_count:,} drawdown halts",
            ),
            (
                "compliance",
                f"{stopped:,} refused",
                ", ".join(firm.compliance.rejections) or "nothing to object to",
            ),
            ("orders", f"{firm.execution.orders_count:,}", unfilled(results)),
            ("fills", f"{firm.broker.fills_count:,}", "at the next opening"),
        ],
    )


def unfilled(results: Results) -> str:
    """Return what became of the orders that were not filled."""
    states = Counter(state.value for state in results.house.firm.execution.states.values())
    del states["filled"]
    return (
        ", ".join(f"{count:,} {state.replace('_', ' ')}" for state, count in states.items()) or "all filled"
    )


def _bus(results: Results) -> Section:
    speed, ledger = results.speed, results.ledger
    fates = (
        "handled",
        "dead_lettered",
        "expired",
        "conflated",
        "overflowed",
        "withdrawn",
        "waiting",
        "in_flight",
    )
    sums = " + ".join(
        f"{ledger.total(fate):,} {fate.replace('_', ' ')}" for fate in fates if ledger.total(fate)
    )
    lost = "nothing was lost" if results.sound else "THE LEDGER DOES NOT BALANCE"
    return Section(
        "The bus",
        [
            (
                "published",
                f"{speed.published_count:,}",
                f"{speed.events_per_s:,.0f} events/s, strategies included",
            ),
            ("delivered", f"{speed.handled_count:,}", f"{speed.deliveries_per_s:,.0f} deliveries/s"),
            (
                "latency",
                f"{speed.p50_us:,.0f} us",
                f"median; p99 {speed.p99_us:,.0f}, p99.9 {speed.p999_us:,.0f}",
            ),
            ("refused", f"{sum(results.refused.values()):,}", _counts(results.refused)),
            (
                "ledger",
                "balances" if ledger.balances else "OUT",
                f"{ledger.total('accepted'):,} accepted = {sums}",
            ),
            (
                "books",
                "balance" if not results.house.firm.portfolio.book.unbalanced else "OUT",
                "to the last unit",
            ),
        ],
        remark=f"{lost.capitalize()}. It took {speed.elapsed_s:.1f} s.",
    )


def _chaos(results: Results) -> Iterator[Section]:
    house = results.house
    assert house.plan is not None
    days, missing = results.days, house.firm.cio.tally.missing
    rows = [
        (
            fault.agent,
            fault.trouble.value,
            _span(days[fault.first_day].isoformat(), days[fault.last_day].isoformat()),
            f"{missing[fault.agent]} rounds, {results.dead_letters[fault.agent]} dead letters",
        )
        for fault in house.plan.faults
    ]
    yield Section(
        f"Chaos, seed {house.plan.seed}: what went wrong", rows, ("", "does", "when", "was missed in")
    )
    yield Section("Who else noticed", _witnesses(results))


def _witnesses(results: Results) -> list[tuple[str, ...]]:
    house, tally = results.house, results.house.firm.cio.tally
    unwell = sum(count for status, count in tally.by_status.items() if status != "complete")
    levels = " > ".join(level.value for _, level in house.levels) or "normal throughout"
    rows: list[tuple[str, ...]] = [
        (
            "barrier",
            f"{unwell:,} rounds",
            f"went on short of somebody, {results.late_count} answers came late",
        ),
        ("dead letters", f"{results.dead_letters.total():,}", _counts(results.dead_letters)),
        ("backpressure", f"{len(house.levels)} changes", levels),
        ("admission", f"{sum(results.refused.values()):,} refused", _counts(results.refused)),
    ]
    kill = house.kill
    if kill is not None:
        times = sorted(kill.heard_ns.values())
        after = house.firm.execution.orders_count - kill.orders_before
        open_count = len(house.firm.execution.open_orders)
        rows += [
            ("kill switch", kill.day, f"{kill.queue_size:,} events were waiting, level {kill.level}"),
            (
                "heard by",
                f"{len(times)} agents",
                f"after {times[0] / 1e6:.2f} ms (first) to {times[-1] / 1e6:.2f} ms (last)",
            ),
            (
                "after it",
                f"{after} orders",
                f"in {AFTERMATH_DAYS} more days; {open_count} left open; positions are kept",
            ),
        ]
    return rows


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"


def _span(first: str, last: str) -> str:
    return first if first == last else f"{first} to {last}"


def headline(results: Results) -> str:
    """Return the first line of the summary."""
    days = results.days
    return (
        f"{len(results.strategies)} strategies, {len(results.symbols)} symbols, {len(days):,} trading days "
        f"({days[0]} to {days[-1]})"
    )


def print_plain(results: Results, echo: Callable[[str], None] = click.echo) -> None:
    """Print the summary as aligned text."""
    echo("")
    echo(headline(results))
    for section in sections(results):
        echo("")
        echo(section.title.upper())
        table = [section.heads, *section.rows] if section.heads else section.rows
        widths = [
            max(len(row[column]) for row in table if column < len(row)) for column in range(len(table[0]))
        ]
        for row in table:
            cells = [
                _pad(cell, widths[place], right=_is_figure(section, place)) for place, cell in enumerate(row)
            ]
            echo(("  " + "  ".join(cells)).rstrip())
        if section.remark:
            echo(f"  {section.remark}")
    echo("")
    echo(CAVEAT)


def print_rich(results: Results) -> None:
    """Print the summary with rich."""
    from rich.console import Console  # noqa: PLC0415 - rich is optional
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(highlight=False)
    console.print()
    console.print(Text(headline(results), style="bold"))
    for section in sections(results):
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=bool(section.heads), header_style="dim")
        for place in range(len(section.rows[0])):
            head = section.heads[place] if section.heads else ""
            right = _is_figure(section, place)
            table.add_column(head, justify="right" if right else "left", style="cyan" if place == 0 else None)
        for row in section.rows:
            table.add_row(*(Text(cell) for cell in row))
        console.print()
        console.print(Text(section.title, style="bold"))
        console.print(table)
        if section.remark:
            console.print(Text(section.remark, style="italic"))
    console.print()
    console.print(Text(CAVEAT, style="dim"))


def _is_figure(section: Section, place: int) -> bool:
    """Return True for a column to align right: any but the first whose cells begin like a number."""
    if place == 0:
        return False
    return (
        all(row[place][:1] in "+-$0123456789" for row in section.rows) and place < 6 and bool(section.heads)
    )


def _pad(cell: str, width: int, *, right: bool) -> str:
    return cell.rjust(width) if right else cell.ljust(width)


def price_in_words(units: int) -> str:
    """Return a price in dollars with cents, and with more digits if it has them."""
    return f"${to_dollars(units):,.4f}".rstrip("0").rstrip(".")
