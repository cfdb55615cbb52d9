"""The suites by name: ours, and those that other packages bring by the entry point ``leakbound.suites``."""

from leakbound.plugins import Table
from leakbound.suites import jailbreakbench, muse, own, real_world, tofu, wmdp
from leakbound.suites.base import SuiteKind

SUITES: Table[SuiteKind] = Table(
    "suite",
    "leakbound.suites",
    SuiteKind,
    {
        "tofu": tofu.KIND,
        "real_world": real_world.KIND,
        "muse": muse.KIND,
        "wmdp": wmdp.KIND,
        "jailbreakbench": jailbreakbench.KIND,
        "own": own.KIND,
    },
)
"""Name -> kind; a new suite is a file and a line here."""
