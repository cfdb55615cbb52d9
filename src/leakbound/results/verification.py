"""What a check of a whole run folder found: a frozen record that reads and writes verification.json."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from leakbound.results.base import Result


@dataclass(frozen=True)
class Check:
    """One thing that was looked at in ``number`` places."""

    what: str
    number: int
    wrong: str = ""
    """The first thing that is wrong, or why it could not be checked; empty where all is right."""

    @property
    def found(self) -> str:
        """``wrong``, or that all is right; where there was nothing to look at, that."""
        return self.wrong or ("right" if self.number else "not checked: nothing of this kind is here")


@dataclass(frozen=True)
class Verification(Result, file="verification.json", command="leakbound verify"):
    """The checks of a run folder. What could not be checked counts against it."""

    path: str
    checks: tuple[Check, ...]

    @property
    def accepted(self) -> bool:
        """Whether everything was checked and nothing is wrong."""
        return all(check.number and not check.wrong for check in self.checks)

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row for each check."""
        for check in self.checks:
            yield {"checked": check.what, "how many": check.number, "found": check.found}

    def __str__(self) -> str:
        wrong = [f"{check.what}: {check.wrong}" for check in self.checks if check.wrong]
        return f"{'accepted' if self.accepted else 'refused'}: {self.path}" + "".join(f"\n{line}" for line in wrong)
