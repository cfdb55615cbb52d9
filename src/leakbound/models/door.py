"""The door to other people's code: whatever it raises becomes our error, with its place and a remedy."""

from collections.abc import Iterator
from contextlib import contextmanager

from leakbound.errors import LeakboundError, ModelError

REMEDIES = {
    "trust_remote_code": "it brings its own code: read that, then allow it by trust_remote_code (--trust-remote-code)",
    "does not recognize this architecture": "a newer transformers may know it: pip install -U transformers",
    "out of memory": "give a smaller dtype, such as bfloat16, or another device",
    "SafetensorError": "the file is damaged or was cut: get it again",
    "ImportError": "install the package that is named",
    "ModuleNotFoundError": "install the package that is named",
}
"""What helps, by a part of the error or of its type's name; the first that fits."""


@contextmanager
def door(what: str) -> Iterator[None]:
    """What is raised inside, unless it is ours, becomes a ModelError that says ``what`` failed, why, and what helps."""
    try:
        yield
    except LeakboundError:
        raise
    except Exception as error:  # anybody's code, so any type
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = f"{type(error).__name__}: {' '.join(lines[:2])[:400]}" if lines else type(error).__name__
        known = f"{type(error).__name__}: {error}"
        remedy = next((f"; {help}" for sign, help in REMEDIES.items() if sign in known), "")
        raise ModelError(f"{what}: {reason}{remedy}") from error
