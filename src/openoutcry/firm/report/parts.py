"""The report's sections, from the money to the ledger."""

from html import escape

from openoutcry.firm.figures import Figures
from openoutcry.firm.money import in_words
from openoutcry.firm.report import charts
from openoutcry.firm.report.html import facts, figure, section, table
from openoutcry.firm.report.svg import NARROW
from openoutcry.firm.results import Results, StrategyResult
from openoutcry.firm.summary import price_in_words, unfilled
from openoutcry.firm.trail import tell_step


def key_facts(results: Results) -> str:
    """Return the strip of key figures."""
    speed = results.speed
    entries = [
        ("The firm", in_words(results.firm.end), f"{results.firm.total_return:+.1%}", "firm-word"),
        ("Buy and hold", in_words(results.held.end), f"{results.held.total_return:+.1%}", "held-word"),
        ("Rounds held", f"{results.house.firm.cio.tally.by_status.total():,}", "one per symbol and day", ""),
        (
            "Events",
            f"{speed.events_per_s:,.0f}/s",
            f"{speed.published_count:,} in {speed.elapsed_s:.1f} s",
            "",
        ),
    ]
    if results.house.kill is not None:
        kill = results.house.kill
        entries.append(
            ("Kill switch", f"{kill.slowest_ms:.2f} ms", f"to the last of {len(kill.heard_ns)} agents", "")
        )
    lost = f"{results.ledger.total('accepted'):,} deliveries accounted for"
    entries.append(
        ("Lost", "nothing" if results.sound else "SEE LEDGER", lost, "" if results.sound else "loss")
    )
    return facts(entries)


def money(results: Results) -> str:
    """Return the section on profit and loss."""
    names = ", ".join(results.holding.symbols)
    firm_legend = charts.legend([("firm", "the firm"), ("held", f"buy and hold {names}")])
    return section(
        "The money",
        figure(
            charts.both(lambda size: charts.equity_chart(results, size)),
            "Equity at each close, on a logarithmic axis. Both began with the same capital and paid the same "
            f"costs; holding means equal parts of {names}, bought at the first opening.",
            firm_legend,
        ),
        table(
            "The firm and its yardstick",
            ("", "ends with", "gain", "a year", "volatility", "Sharpe", "worst fall", "longest below peak"),
            [_figures_row("The firm", results.firm), _figures_row("Buy and hold", results.held)],
        ),
        figure(
            charts.both(lambda size: charts.drawdown_chart(results, size)),
            "How far below the highest close so far.",
            firm_legend,
        ),
        _costs(results),
    )


def _figures_row(name: str, one: Figures) -> tuple[str, ...]:
    return (
        name,
        in_words(one.end),
        f"{one.total_return:+.1%}",
        f"{one.annual_return:+.1%}",
        f"{one.volatility:.1%}",
        f"{one.sharpe:.2f}",
        f"-{one.max_drawdown:.1%}",
        f"{one.longest_drawdown_days:,} days",
    )


def _costs(results: Results) -> str:
    mandate, book = results.house.mandate, results.house.firm.portfolio.book
    rows = [
        ("Commissions", in_words(book.commissions), f"{mandate.commission_bps:g} bps, at least $1 a fill"),
        (
            "Slippage",
            in_words(results.house.firm.broker.slippage),
            f"{mandate.slippage_bps:g} bps of the opening",
        ),
        ("Borrowed shares", in_words(book.fees), f"{mandate.borrow_bps_year:g} bps a year"),
        ("Traded in all", in_words(book.turnover), f"{book.fills_count:,} fills"),
    ]
    return table(
        "What trading cost, all of it taken off the result", ("", "amount", "rate"), rows, words=(2,)
    )


def symbols(results: Results) -> str:
    """Return the section on the symbols."""
    pictures = [
        f"<figure><h3>{escape(one.symbol)}</h3>{charts.symbol_chart(results, one.symbol, NARROW)}</figure>"
        for one in results.symbols
    ]
    rows = [
        (
            one.symbol,
            in_words(one.profit, signed=True),
            f"{one.fills_count:,}",
            in_words(one.commissions),
            f"{one.held.total_return:+.1%}",
            f"-{one.held.max_drawdown:.1%}",
            one.first_day.isoformat(),
        )
        for one in results.symbols
    ]
    return section(
        "Symbol by symbol",
        f'<div class="grid">{"".join(pictures)}</div>',
        charts.legend([("bandlong", "the firm was long"), ("bandshort", "the firm was short")]),
        table(
            "What the firm made with each, and what holding it alone from its first day would have gained",
            ("", "the firm made", "fills", "commissions", "holding gained", "holding fell by", "since"),
            rows,
        ),
        note="Adjusted closing prices on logarithmic axes; the ticks below are the firm's trades.",
    )


def rounds(results: Results) -> str:
    """Return the section on the barrier and the strategies."""
    tally = results.house.firm.cio.tally
    shown = [status for status in ("complete", "quorate", "expired") if tally.by_status[status]]
    moods = ("long", "flat", "short", "abstained", "missing")
    spoken = [mood for mood in moods if any(count[mood] for count in tally.moods.values())]
    return section(
        "The rounds",
        figure(
            charts.both(lambda size: charts.rounds_chart(results, size)),
            "Rounds by how they ended.",
            charts.legend([(status, status) for status in shown]),
        ),
        figure(
            charts.both(lambda size: charts.mood_chart(results, size)),
            "What the strategies answered, as shares of all answers that were expected.",
            charts.legend([(mood, mood) for mood in spoken]),
        ),
        table(
            "The strategies, and how often the next close went the way they said",
            ("", "kind", "long", "short", "flat", "abstained", "missed", "called it"),
            [_strategy_row(one) for one in results.strategies],
            words=(1,),
        ),
        note="The chief investment officer opens a round per symbol and day; after the close every strategy "
        "answers with a signal or abstains.",
    )


def _strategy_row(one: StrategyResult) -> tuple[str, ...]:
    answers = one.answers
    rate = f"{one.hit_rate:.1%}" if one.hit_rate is not None else "none"
    counts = (f"{answers[word]:,}" for word in ("long", "short", "flat", "abstained"))
    return (one.name, one.kind, *counts, f"{one.missed_count:,}", rate)


def desk(results: Results) -> str:
    """Return the section on the way from signal to fill, with one trade explained."""
    firm = results.house.firm
    rejections = ", ".join(f"{name} {count}" for name, count in firm.compliance.rejections.items()) or "none"
    risk = firm.risk
    rows = [
        (
            "Signals",
            f"{firm.cio.tally.votes_count:,}",
            f"and {firm.cio.tally.abstentions_count:,} abstentions",
        ),
        (
            "Decisions",
            f"{firm.cio.decisions_count:,}",
            f"{firm.cio.tally.invalid_count:,} rounds were not valid",
        ),
        ("Refused by risk", f"{risk.rejected_count:,}", f"{risk.cut_count:,} more were cut to a limit"),
        ("Stops", f"{risk.stops_count:,}", f"and {risk.halts_count:,} drawdown halts"),
        ("Refused by compliance", f"{firm.compliance.rejections.total():,}", rejections),
        ("Orders", f"{firm.execution.orders_count:,}", unfilled(results)),
        ("Fills", f"{firm.broker.fills_count:,}", "each at the opening after the decision"),
    ]
    return section(
        "From signal to fill",
        table("How many went through", ("", "count", ""), rows, words=(2,)),
        _trail(results),
    )


def _trail(results: Results) -> str:
    trade = results.example
    if trade is None:
        return ""
    steps = "".join(
        f"<li><time>{escape(when)}</time><b>{escape(who)}</b> <code>{escape(event_id)}</code>"
        f"<p>{escape(said)}</p></li>"
        for when, who, event_id, said in map(tell_step, results.chain)
    )
    outcome = "made" if trade.realised >= 0 else "lost"
    intro = (
        f"Of the trades that strategies voted for, this one realised the most: it {outcome} "
        f"{in_words(abs(trade.realised))} on {trade.shares:,} {trade.symbol} at "
        f"{price_in_words(trade.price)}. Every event names its cause, so the fill leads back to a bar."
    )
    words = f'<h3>One trade, explained</h3><p class="note">{escape(intro)}</p>'
    return f'<div class="story">{words}<ol class="trail">{steps}</ol></div>'


def chaos(results: Results) -> str:
    """Return the section on what went wrong, or nothing in a calm run."""
    house = results.house
    if house.plan is None:
        return ""
    tally = house.firm.cio.tally
    rows = [
        (
            fault.agent,
            fault.trouble.value,
            results.days[fault.first_day].isoformat(),
            results.days[fault.last_day].isoformat(),
            f"{tally.missing[fault.agent]:,}",
            f"{results.dead_letters[fault.agent]:,}",
        )
        for fault in house.plan.faults
    ]
    kill = house.kill
    return section(
        "What went wrong on purpose",
        table(
            "Drawn from the seed",
            ("", "does", "from", "to", "rounds missed", "dead letters"),
            rows,
            words=(1,),
        ),
        table("Who noticed", ("", "what"), _witnesses(results), words=(1,)),
        figure(
            charts.both(lambda size: charts.kill_chart(results, size)),
            f"From publishing the kill switch to each agent, with {kill.queue_size:,} events waiting.",
        )
        if kill
        else "",
        note=f"Seed {house.plan.seed}. The same seed brings the same trouble on the same days; how long "
        "things take is real.",
    )


def _witnesses(results: Results) -> list[tuple[str, str]]:
    house = results.house
    statuses = ", ".join(f"{count:,} {status}" for status, count in house.firm.cio.tally.by_status.items())
    refused = ", ".join(f"{count:,} {reason}" for reason, count in results.refused.items()) or "none"
    levels = " > ".join(level.value for _, level in house.levels) or "normal throughout"
    rows = [
        ("The barrier", f"rounds: {statuses}; {results.late_count} answers came late"),
        (
            "Dead letters",
            ", ".join(f"{name} {count}" for name, count in results.dead_letters.items()) or "none",
        ),
        ("Backpressure", levels),
        ("Admission", f"refused: {refused}"),
    ]
    if house.kill is not None:
        after = house.firm.execution.orders_count - house.kill.orders_before
        rows.append(
            (
                "The kill switch",
                f"{house.kill.day}: orders cancelled, positions kept; {after} orders since",
            )
        )
    return rows


def bus(results: Results) -> str:
    """Return the section on the bus: latency and ledger."""
    speed = results.speed
    rows = [
        (
            f"{row.subscription}",
            row.lane,
            *(f"{getattr(row, fate):,}" for fate in ("accepted", "handled", "dead_lettered", "waiting")),
            "yes" if row.balances else "NO",
        )
        for row in results.ledger.rows
        if row.accepted
    ]
    return section(
        "The bus",
        table(
            "Speed, with the strategies' own arithmetic in it",
            ("", "figure"),
            [
                ("Events published per second", f"{speed.events_per_s:,.0f}"),
                ("Deliveries handled per second", f"{speed.deliveries_per_s:,.0f}"),
                ("From publishing to handler, median", f"{speed.p50_us:,.0f} us"),
                ("99th percentile", f"{speed.p99_us:,.0f} us"),
                ("99.9th percentile", f"{speed.p999_us:,.0f} us"),
            ],
        ),
        table(
            "The ledger: everything accepted is accounted for, per subscription and lane",
            ("", "lane", "accepted", "handled", "dead letters", "waiting", "balances"),
            rows,
            words=(1,),
        ),
        note="Latencies are sampled, once per batch of events.",
    )
