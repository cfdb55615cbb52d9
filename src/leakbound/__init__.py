"""leakbound: how much can this model still leak when it is sampled? A number that is guaranteed.

What a user needs is exported here, and loaded when it is first used: importing leakbound loads no torch. The list of
exports is ``__init__.pyi``.
"""

import lazy_loader

__version__ = "0.2.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
