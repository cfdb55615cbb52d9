"""One model, drawn from, scored and bounded: the steps from prompts to an audit, a certificate, a comparison."""

from leakbound.auditing.steps import Loading, Statement, audit, bound, sample, score

__all__ = ["Loading", "Statement", "audit", "bound", "sample", "score"]
