"""One model, drawn from, scored and bounded: the steps from prompts to an audit, a certificate, a comparison."""

from leakbound.auditing.drawing import Statement, sample, score
from leakbound.auditing.steps import audit, bound

__all__ = ["Statement", "audit", "bound", "sample", "score"]
