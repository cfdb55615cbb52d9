"""A suite asked of a model: the field's metrics with intervals, and what sampling proves."""
