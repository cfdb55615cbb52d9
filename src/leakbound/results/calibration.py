"""The threshold of the adaptive temperature that was chosen: a frozen record that reads and writes calibration.json."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from leakbound.results.base import Result


@dataclass(frozen=True)
class Calibration(Result, file="calibration.json", command="leakbound calibrate"):
    """The smallest threshold (to 6 decimals) at which at most ``share`` of the prompts are decoded greedily.

    ``greedy`` of ``num_prompts`` are, at this threshold. A choice on these prompts, without a guarantee for others.
    """

    threshold: float
    share: float
    greedy: int
    num_prompts: int

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row."""
        yield self.to_json()

    def __str__(self) -> str:
        return (
            f"--adaptive-temperature {self.threshold:.6f}: {self.greedy} of {self.num_prompts} prompts are decoded "
            f"greedily (at most {self.share:g} of them were allowed to)"
        )
