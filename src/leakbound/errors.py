"""What can go wrong, as a tree.

::

    LeakboundError
    ├── InputError (also a ValueError)   the caller's input: names the argument, the value and the remedy; exit code 2
    │   ├── PromptsError                 a file of rows: names the file and the line
    │   ├── ModelError                   a model that cannot or must not be loaded
    │   └── RunMismatchError             a run folder that belongs to another run
    ├── IncompleteRunError               draws or scores are missing: no statement may be made yet; exit code 3
    ├── StorageError                     the disk is full, a folder cannot be written: exit code 5
    ├── WorkerError                      workers died, or none came: what is done is kept; exit code 6
    └── TrainingError                    training went wrong (a loss that is not finite, a collapsed model); exit code 4

``assert`` is for our own mistakes, which end a command with exit code 70; these are for everybody else's.
"""

from typing import Self


class LeakboundError(Exception):
    """Every error that leakbound raises on purpose."""

    exit_code = 70
    of_answer: bool = False
    """Whether it failed by what the model answered: to draw it again would choose draws by what they say."""

    def as_of_answer(self) -> Self:
        """The error, marked so."""
        self.of_answer = True
        return self


class InputError(LeakboundError, ValueError):
    """The caller's input cannot be used. The message names the argument, the value and the remedy."""

    exit_code = 2


class PromptsError(InputError):
    """A file of rows or a log cannot be used. The message names the file and, where there is one, its line."""


class ModelError(InputError):
    """A model cannot be loaded, or must not be."""


class RunMismatchError(InputError):
    """A run folder was started by a run with other settings; continuing it would mix two experiments."""


class IncompleteRunError(LeakboundError):
    """Draws or scores are missing, so that no statement may be made from the folder."""

    exit_code = 3


class StorageError(LeakboundError):
    """Something cannot be stored: the disk is full, the folder read-only, the name too long. What was there stays."""

    exit_code = 5


class WorkerError(LeakboundError):
    """Workers died of a piece of work again and again, or there were none. The message has the last one's words."""

    exit_code = 6


class Interrupted(KeyboardInterrupt):
    """A long command was interrupted. ``kept``: what of it is on the disk; ``more``: the option to go on with."""

    def __init__(self, kept: str, more: str = "") -> None:
        super().__init__(kept)
        self.kept, self.more = kept, more


class TrainingError(LeakboundError):
    """Training cannot go on: the loss is not finite, or the model has collapsed."""

    exit_code = 4
