"""The firm's mandate: what it may do, and what trading costs it."""

from dataclasses import dataclass

from openoutcry.firm.money import UNITS_PER_DOLLAR, Units


@dataclass(frozen=True, slots=True, kw_only=True)
class Mandate:
    """The rules of the house. Weights and limits are fractions of equity unless they say otherwise.

    Attributes:
        capital: What the firm begins with.
        quorum: Share of the strategies that must answer before the CIO may decide.
        conviction_scale: Weight of a position for a conviction of 1; the average conviction is far lower.
        long_max: Largest weight of a long position.
        short_max: Largest weight of a short position.
        gross_max: Largest sum of all positions, long and short added up.
        band: How far a position may be from its target before the CIO trades.
        stop_loss: A position whose price is this far below (short: above) its average is closed.
        stop_pause_days: Trading days for which a stopped symbol is left alone.
        drawdown_max: Fall of equity from its peak at which Risk closes everything and halts.
        halt_days: Trading days that such a halt lasts; after it the peak starts again.
        order_max: Largest order.
        volume_max: Largest order as a share of the average daily volume of the last twenty days.
        restricted: Symbols that may not be traded.
        slippage_bps: How much worse than the opening price a fill is, in hundredths of a percent.
        commission_bps: Commission on the value of a fill, in hundredths of a percent.
        commission_min: The least commission on a fill.
        borrow_bps_year: Fee on the value of borrowed shares, in hundredths of a percent a year (252 days).

    """

    capital: Units = 1_000_000 * UNITS_PER_DOLLAR
    quorum: float = 0.6
    conviction_scale: float = 1.2
    long_max: float = 0.35
    short_max: float = 0.10
    gross_max: float = 1.0
    band: float = 0.04
    stop_loss: float = 0.15
    stop_pause_days: int = 10
    drawdown_max: float = 0.20
    halt_days: int = 20
    order_max: float = 0.40
    volume_max: float = 0.02
    restricted: frozenset[str] = frozenset()
    slippage_bps: float = 5.0
    commission_bps: float = 2.0
    commission_min: Units = UNITS_PER_DOLLAR
    borrow_bps_year: float = 50.0
