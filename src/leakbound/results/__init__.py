"""What was found: frozen records that are saved as JSON, loaded, and become data frames."""

from leakbound.results.audit import Audit, PromptAudit, ScoredCompletion
from leakbound.results.certificate import Certification, PromptCertificate

__all__ = ["Audit", "Certification", "PromptAudit", "PromptCertificate", "ScoredCompletion"]
