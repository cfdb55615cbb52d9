"""Back ends: things that draw completions and, where possible, give log-likelihoods.

Importing this package loads no torch; ``leakbound.models.hf`` does.
"""

from leakbound.models.base import Likelihood, Sampler
from leakbound.models.fake import FakeModel
from leakbound.models.openai import OpenAIModel

__all__ = ["FakeModel", "Likelihood", "OpenAIModel", "Sampler"]
