"""Training: models that know something, and models that were made to forget it. Everything torch trains lives here."""

from leakbound.unlearning.config import FinetuneConfig, UnlearnConfig
from leakbound.unlearning.train import finetune, unlearn

__all__ = ["FinetuneConfig", "UnlearnConfig", "finetune", "unlearn"]
