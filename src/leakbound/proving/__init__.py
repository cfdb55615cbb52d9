"""Unlearning that goes on until a claim about what the model still says is proven, or the budget is spent."""
