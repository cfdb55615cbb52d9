from .config import FinetuneConfig, UnlearnConfig
from .train import finetune, unlearn

__all__ = ["FinetuneConfig", "UnlearnConfig", "finetune", "unlearn"]
