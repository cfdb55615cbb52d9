"""The machinery behind the doors of leakbound.bounds: test martingales, exact tails, orders, looks."""
