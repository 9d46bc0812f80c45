"""The report's charts. Each function draws one size; `both` draws one for wide and one for narrow pages."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import date

from openoutcry.firm.agents.portfolio import Trade
from openoutcry.firm.figures import drawdowns
from openoutcry.firm.money import UNITS_PER_DOLLAR
from openoutcry.firm.report.svg import (
    SIZES,
    Drawing,
    Size,
    linear,
    logarithmic,
    nice_ticks,
    ratio_ticks,
    thinned,
)
from openoutcry.firm.results import Results
from openoutcry.trading import OrderSide

POINTS_MOST = 420


def both(chart: Callable[[Size], str]) -> str:
    """Draw a chart in both sizes."""
    return "".join(chart(size) for size in SIZES)


def equity_chart(results: Results, size: Size) -> str:
    """Draw the firm's equity and that of holding, on a logarithmic axis."""
    firm = [value / UNITS_PER_DOLLAR for value in results.house.firm.portfolio.equity]
    held = [value / UNITS_PER_DOLLAR for value in results.holding.equity]
    drawing = Drawing(
        size,
        "Equity of the firm and of buy-and-hold",
        f"From {_short(firm[0])}, the firm ends at {_short(firm[-1])}, holding at {_short(held[-1])}.",
    )
    low, high = min(*firm, *held) * 0.96, max(*firm, *held) * 1.04
    x = linear(0, len(firm) - 1, size.left, size.plot_right)
    y = logarithmic(low, high, size.plot_bottom, size.top)
    drawing.y_axis(ratio_ticks(low, high), y, _short)
    drawing.x_axis(results.days, x)
    _kill_mark(drawing, results, x)
    ends = []
    for values, kind, name in ((held, "held", "hold"), (firm, "firm", "firm")):
        points = [(x(index), y(value)) for index, value in thinned(values, POINTS_MOST, _last)]
        drawing.line(points, f"line {kind}")
        ends.append((points[-1][1], f"{name} {_short(values[-1])}", kind))
    if not size.narrow:
        for place, words, kind in _apart(ends):
            drawing.text(size.plot_right + 8, place + 4, words, kind=f"label {kind}")
    return drawing.render()


def drawdown_chart(results: Results, size: Size) -> str:
    """Draw how far below their peaks the firm and holding stood."""
    capital = results.house.mandate.capital
    firm = [-depth for depth in drawdowns(results.house.firm.portfolio.equity, capital)]
    held = [-depth for depth in drawdowns(results.holding.equity, capital)]
    drawing = Drawing(
        size,
        "Fall from the peak",
        f"The firm's worst is {min(firm):.0%}, that of holding {min(held):.0%}.",
    )
    low = min(*firm, *held) * 1.05 or -0.01
    x = linear(0, len(firm) - 1, size.left, size.plot_right)
    y = linear(low, 0, size.plot_bottom, size.top)
    drawing.y_axis([tick / 5 for tick in range(int(low * 5), 1)], y, lambda tick: f"{tick:.0%}")
    drawing.x_axis(results.days, x)
    points = [(x(index), y(value)) for index, value in thinned(firm, POINTS_MOST, min)]
    drawing.area(points, y(0), "fill firm")
    drawing.line(points, "line firm thin")
    drawing.line([(x(index), y(value)) for index, value in thinned(held, POINTS_MOST, min)], "line held")
    return drawing.render()


def symbol_chart(results: Results, symbol: str, size: Size) -> str:
    """Draw a symbol's price, with the times in which the firm was long or short, and every trade."""
    size = size._replace(height=size.height * 2 // 3)
    bars = list(results.history.of(symbol))
    closes = [bar.close for bar in bars]
    days = [bar.day.isoformat() for bar in bars]
    place = {day: index for index, day in enumerate(days)}
    trades = [trade for trade in results.house.firm.portfolio.trades if trade.symbol == symbol]
    bought = sum(trade.side is OrderSide.BUY for trade in trades)
    drawing = Drawing(
        size,
        f"{symbol}: price, positions and trades",
        f"From {closes[0]:,.2f} to {closes[-1]:,.2f} dollars; {bought} buys, {len(trades) - bought} sells.",
    )
    x = linear(0, len(days) - 1, size.left, size.plot_right)
    low, high = min(closes) * 0.97, max(closes) * 1.03
    rug = size.plot_bottom - 20
    y = logarithmic(low, high, rug - 6, size.top)
    for first, last, quantity in _spells(results.house.firm.portfolio.holdings.get(symbol, {}), place):
        kind, word = ("long", "long") if quantity > 0 else ("short", "short")
        tip = f"{word} from {days[first]} to {days[last]}"
        drawing.box(x(first), size.top, x(last) - x(first), rug - 6 - size.top, f"band {kind}", tip)
    drawing.y_axis(ratio_ticks(low, high), y, lambda tick: f"{tick:,.0f}" if tick >= 1 else f"{tick:,.2f}")
    drawing.x_axis([bar.day for bar in bars], x)
    drawing.line([(x(index), y(value)) for index, value in thinned(closes, POINTS_MOST, _last)], "line price")
    _rug(drawing, trades, place, x, rug)
    return drawing.render()


def rounds_chart(results: Results, size: Size) -> str:
    """Draw how the rounds ended, by year or month."""
    counts = _grouped(results.house.firm.cio.tally.by_month, results.days)
    return _stack(
        size,
        "How the rounds of the barrier ended",
        counts,
        ("complete", "quorate", "expired"),
        shares=False,
    )


def mood_chart(results: Results, size: Size) -> str:
    """Draw what the strategies answered in the rounds, as shares, by year or month."""
    counts = _grouped(results.house.firm.cio.tally.moods, results.days)
    return _stack(
        size,
        "What the strategies answered",
        counts,
        ("long", "flat", "short", "abstained", "missing"),
        shares=True,
    )


def kill_chart(results: Results, size: Size) -> str:
    """Draw when each agent heard the kill switch."""
    kill = results.house.kill
    assert kill is not None
    times = sorted(kill.heard_ns.items(), key=lambda one: one[1])
    row = 17
    left = 130
    size = size._replace(height=row * len(times) + size.top + 6, bottom=6, left=left, right=70)
    drawing = Drawing(
        size,
        "From the kill switch to each agent",
        f"The first heard after {times[0][1] / 1e6:.2f} ms, the last after {times[-1][1] / 1e6:.2f} ms.",
    )
    x = linear(0, times[-1][1], size.left, size.plot_right)
    for place, (agent, after_ns) in enumerate(times):
        top = size.top + place * row
        drawing.text(left - 8, top + 12, agent, anchor="end")
        drawing.box(
            left, top + 3, x(after_ns) - left, row - 6, "bar kill", f"{agent}: {after_ns / 1e6:.3f} ms"
        )
        drawing.text(x(after_ns) + 6, top + 12, f"{after_ns / 1e6:.2f} ms")
    return drawing.render()


def _stack(
    size: Size, title: str, counts: dict[str, Counter[str]], kinds: Sequence[str], *, shares: bool
) -> str:
    size = size._replace(height=size.height * 2 // 3, right=12)
    seen = [kind for kind in kinds if any(count[kind] for count in counts.values())]
    totals = ", ".join(f"{sum(count[kind] for count in counts.values()):,} {kind}" for kind in seen)
    drawing = Drawing(size, title, f"In all: {totals}.")
    top = 1.0 if shares else float(max((count.total() for count in counts.values()), default=1))
    y = linear(0, top, size.plot_bottom, size.top)
    ticks = [0, 0.25, 0.5, 0.75, 1.0] if shares else nice_ticks(0, top, 5)
    drawing.y_axis(ticks, y, (lambda tick: f"{tick:.0%}") if shares else (lambda tick: f"{tick:,.0f}"))
    width = (size.plot_right - size.left) / max(1, len(counts))
    every = -(-len(counts) // (7 if size.narrow else 14))
    for place, (period, count) in enumerate(counts.items()):
        left, base = size.left + place * width, 0.0
        scale = count.total() if shares else 1.0
        for kind in seen:
            share = count[kind] / scale if scale else 0.0
            tip = f"{period}: {count[kind]:,} {kind}"
            drawing.box(
                left + width * 0.12,
                y(base + share),
                width * 0.76,
                y(base) - y(base + share),
                f"bar {kind}",
                tip,
            )
            base += share
        if place % every == 0:
            drawing.text(left + width / 2, size.plot_bottom + 19, period, anchor="middle")
    return drawing.render()


def legend(entries: Iterable[tuple[str, str]]) -> str:
    """Return a legend: pairs of a colour class and a word."""
    items = "".join(f'<li><span class="swatch {kind}"></span>{word}</li>' for kind, word in entries)
    return f'<ul class="legend">{items}</ul>'


def _rug(
    drawing: Drawing, trades: Sequence[Trade], place: dict[str, int], x: Callable[[float], float], top: int
) -> None:
    for trade in trades:
        at, buys = x(place[trade.day]), trade.side is OrderSide.BUY
        y, kind = (top, "tradebuy") if buys else (top + 10, "tradesell")
        drawing.add(f'<path class="{kind}" d="M{at:.1f},{y}v8"/>')
    drawing.text(drawing.size.left - 8, top + 8, "buys", anchor="end")
    drawing.text(drawing.size.left - 8, top + 19, "sells", anchor="end")


def _spells(holdings: dict[str, int], place: dict[str, int]) -> list[tuple[int, int, int]]:
    """Return the spans of days on which a position had one sign."""
    spells: list[tuple[int, int, int]] = []
    for day, quantity in holdings.items():
        index, sign = place[day], (quantity > 0) - (quantity < 0)
        if not sign:
            continue
        if spells and spells[-1][2] == sign and spells[-1][1] >= index - 1:
            spells[-1] = (spells[-1][0], index, sign)
        else:
            spells.append((index, index, sign))
    return spells


def _grouped(by_month: dict[str, Counter[str]], days: Sequence[date]) -> dict[str, Counter[str]]:
    """Return the counts by year, or by month if the time is short."""
    if (days[-1] - days[0]).days < 800:
        return by_month
    by_year: dict[str, Counter[str]] = {}
    for month, count in by_month.items():
        by_year.setdefault(month[:4], Counter()).update(count)
    return by_year


def _kill_mark(drawing: Drawing, results: Results, x: Callable[[float], float]) -> None:
    kill = results.house.kill
    if kill is None:
        return
    at = x([day.isoformat() for day in results.days].index(kill.day))
    drawing.add(f'<path class="killmark" d="M{at:.1f},{drawing.size.top}V{drawing.size.plot_bottom}"/>')
    drawing.text(at - 6, drawing.size.top + 12, "kill switch", kind="label kill", anchor="end")


def _apart(ends: list[tuple[float, str, str]]) -> list[tuple[float, str, str]]:
    """Keep two labels at least a line apart."""
    (high, *rest_high), (low, *rest_low) = sorted(ends, key=lambda end: end[0])
    gap = 16 - (low - high)
    if gap > 0:
        high, low = high - gap / 2, low + gap / 2
    return [(high, rest_high[0], rest_high[1]), (low, rest_low[0], rest_low[1])]


def _last(values: Sequence[float]) -> float:
    return values[-1]


def _short(dollars: float) -> str:
    if dollars >= 1e6:
        return f"${dollars / 1e6:.3g}m"
    return f"${dollars / 1e3:,.0f}k"
