"""Training: models that know something, and models that were made to forget it. Everything torch trains lives here.

Loaded when first used, so that the command line can read the settings without torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
