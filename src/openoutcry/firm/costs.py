"""What a fill costs: slippage and commission. Pure, and the same for the firm and its benchmark."""

from openoutcry.firm.mandate import Mandate
from openoutcry.firm.money import Units, share_of
from openoutcry.trading import OrderSide


def fill_price(side: OrderSide, opening: Units, mandate: Mandate) -> Units:
    """Return the price of a market order at the open: worse than the opening price by the slippage."""
    slippage = share_of(opening, mandate.slippage_bps)
    return opening + slippage if side is OrderSide.BUY else max(1, opening - slippage)


def fill_commission(shares: int, price: Units, mandate: Mandate) -> Units:
    """Return the commission on a fill."""
    return max(mandate.commission_min, share_of(shares * price, mandate.commission_bps))
