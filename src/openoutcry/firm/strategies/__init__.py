"""Pure functions from the past to an opinion, and the catalogue from which a firm hires them."""

from openoutcry.firm.strategies.catalogue import FEWEST, MOST, Recipe, recipes
from openoutcry.firm.strategies.past import Opinion, Past

__all__ = ["FEWEST", "MOST", "Opinion", "Past", "Recipe", "recipes"]
