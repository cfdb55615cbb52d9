"""What every result can do: write itself as one JSON file, read it again, become a data frame, show in a notebook."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path, PurePath
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, ClassVar, Self, Union, get_args, get_origin, get_type_hints

from leakbound.errors import InputError, StorageError
from leakbound.plugins import named_object
from leakbound.runs.files import read_json, write_json
from leakbound.runs.places import place

if TYPE_CHECKING:
    import pandas as pd


class Result:
    """A frozen dataclass that is one JSON file, ``FILE`` of a folder, which ``COMMAND`` makes: both named by the class.

    Its fields are numbers, texts, records of such, tuples and mappings of them, each optional or not: the JSON follows
    from their types. A record inside that is no plain dataclass of such fields has ``to_json`` and ``from_json``.
    """

    FILE: ClassVar[str]
    COMMAND: ClassVar[str]
    ASCII: ClassVar[bool] = False
    """Whether the file spells everything else as codes: a lone surrogate has no other spelling."""

    def __init_subclass__(cls, *, file: str, command: str, ascii: bool = False) -> None:
        cls.FILE, cls.COMMAND, cls.ASCII = file, command, ascii

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object."""
        return {field.name: _plain(getattr(self, field.name)) for field in _fields(type(self))}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The record that :meth:`to_json` wrote, also with the seal of its file, which :meth:`load` verifies."""
        hints = _hints(cls)  # type: ignore[arg-type] # a class is hashable
        return cls(**{name: _typed(hints.get(name), value) for name, value in data.items() if name != "seal"})

    def save(self, path: str | Path) -> Path:
        """Write the record whole or not at all, and return it: ``FILE`` in a folder, or a file that ends in .json."""
        file = place(path)
        file = file if file.suffix == ".json" else file / self.FILE
        write_json(file, self.to_json(), ascii=self.ASCII)
        return file

    @classmethod
    def load(cls, path: str | Path, argument: str = "path") -> Self:
        """The record in a folder or a file of its own. Raises InputError where there is none, which calls the path by
        the ``argument`` that it was given for."""
        file = place(path)
        if not _is(file.is_dir) and file.suffix != ".json":
            what = "that is no folder" if _is(file.exists) else "there is no such folder"
            raise InputError(f"{argument} is {str(path)!r}: {what}; give the one that holds {cls.FILE}")
        try:
            file = file / cls.FILE if file.is_dir() else file
            found = cls.from_json(read_json(file)[0])
            _check_run(file, found)
            return found
        except FileNotFoundError as error:
            raise InputError(
                f"{argument} is {str(path)!r}: there is no {cls.FILE}; run `{cls.COMMAND}` first"
            ) from error
        except StorageError:
            raise
        except Exception as error:  # a file of somebody else's: whatever it raises, the remedy is the same
            raise InputError(
                f"{argument} is {str(file)!r}: it cannot be read ({error}); run `{cls.COMMAND}` again"
            ) from error

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows of :meth:`to_frame`, as names and plain values."""
        raise NotImplementedError

    def to_frame(self) -> pd.DataFrame:
        """What was found as a data frame."""
        import pandas as pd

        return pd.DataFrame(list(self.rows()))

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        """For a notebook: one output, as the reports make it, found by name since records know nothing of them."""
        return named_object("leakbound.report:in_notebook", "the notebook's view")(self)  # type: ignore[no-any-return]


def _check_run(file: Path, found: Result) -> None:
    """ValueError for a result that lies in the folder of another run than it is of."""
    run, beside = getattr(found, "run", None), file.with_name("run.json")
    if file.name == found.FILE and isinstance(run, Mapping) and beside.exists() and read_json(beside)[0] != run:
        raise ValueError("it is of another run than the run.json beside it")


def _fields(kind: Any) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(kind)


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _plain(value: Any) -> Any:
    """A value as JSON has it: numbers that are not finite, which it does not have, as texts."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if hasattr(value, "to_json"):
        return _plain(value.to_json())
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in _fields(value)}
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, PurePath) else value


def _typed(kind: Any, value: Any) -> Any:
    """A JSON value as the type that its field declares."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        some = [one for one in inner if one is not NoneType]
        return value if (value is None and NoneType in inner) or len(some) > 1 else _typed(some[0], value)
    if hasattr(kind, "from_json"):
        return kind.from_json(value)
    if dataclasses.is_dataclass(kind):
        hints = _hints(kind)  # type: ignore[arg-type] # a class, not a record of one
        return kind(**{name: _typed(hints.get(name), part) for name, part in value.items()})  # type: ignore[operator]
    if origin is tuple:
        kinds = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
        return tuple(_typed(one, part) for one, part in zip(kinds, value, strict=True))
    if origin in (dict, Mapping):
        return {name: _typed(inner[1], part) for name, part in value.items()}
    return float(value) if kind is float and isinstance(value, str) else value


def _is(test: Callable[[], bool]) -> bool:
    """What is asked of a path; no, where it cannot be one: a name that is too long."""
    try:
        return test()
    except OSError:
        return False
