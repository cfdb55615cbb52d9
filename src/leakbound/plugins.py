"""Tables by name that other packages add to by entry points, and things named ``module:object``."""

import hashlib
import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar

from leakbound.errors import InputError

T = TypeVar("T")


class Table(Mapping[str, T]):
    """``own``, and what installed packages add to it by entry points of ``group``: a mapping from names to things.

    ``what`` is the argument that takes such a name, ``kind`` the type of the things (or what isinstance takes for it).
    An entry point is loaded when its name is looked up. InputError, which names the distribution: one that cannot be
    loaded or is no ``kind``, and a name that is ours or another distribution's already.
    """

    def __init__(self, what: str, group: str, kind: Any, own: Mapping[str, T]) -> None:
        self.what, self.group, self.kind, self.own = what, group, kind, own

    @property
    def brought(self) -> Mapping[str, tuple[EntryPoint, ...]]:
        """The entry points by name, none of them loaded."""
        return _brought(self.group, tuple(sys.path))

    def find(self, name: str) -> T:
        """The thing of that name. InputError that names all there are."""
        if name not in self:
            raise InputError(f"{self.what} is {name!r}: give one of {', '.join(self)}")
        return self[name]

    def refuse(self, name: str, theirs: tuple[EntryPoint, ...]) -> InputError:
        """What is said of a name that means two things."""
        who = [*(["leakbound"] if len(theirs) == 1 else []), *(_said(point) for point in theirs)]
        return InputError(f"{self.what} is {name!r}, which {' and '.join(who)} both bring: uninstall or rename one")

    def __getitem__(self, name: str) -> T:
        theirs = self.brought.get(name, ())
        if not theirs:
            return self.own[name]
        if len(theirs) > 1 or name in self.own:
            raise self.refuse(name, theirs)
        try:
            found = theirs[0].load()
        except Exception as error:  # an import runs arbitrary code: whatever it raises, the remedy is the same
            raise InputError(
                f"{self.what} is {name!r}: {_said(theirs[0])} cannot be loaded: {type(error).__name__}: {error}"
            ) from error
        if not isinstance(found, self.kind):
            raise InputError(f"{self.what} is {name!r}: {_said(theirs[0])} is {found!r}, not {self.kind.__name__}")
        return found  # type: ignore[no-any-return]

    def __contains__(self, name: object) -> bool:
        return name in self.own or name in self.brought

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self.own, *self.brought]))

    def __len__(self) -> int:
        return len({*self.own, *self.brought})


@lru_cache(maxsize=16)
def _brought(group: str, _path: tuple[str, ...]) -> dict[str, tuple[EntryPoint, ...]]:
    """The entry points of a group by name, for one state of ``sys.path``: looking through it takes milliseconds."""
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for point in entry_points(group=group):
        found[point.name] = (*found.get(point.name, ()), point)
    return found


def _said(point: EntryPoint) -> str:
    return f"{point.dist.name if point.dist else 'a package'} (entry point {point.value!r} of {point.group})"


def named_object(name: str, what: str) -> Any:
    """The object that ``module:object`` names; ``what`` says in errors whose name it is.

    A module is looked for where Python looks, then in the working directory. InputError for one that leads nowhere.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise InputError(f"{what} {name!r}: write module:object, for example my_package:thing")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # an import runs arbitrary code: whatever it raises, the remedy is the same
        raise InputError(
            f"{what} {name!r}: importing {module_name!r} failed: {type(error).__name__}: {error}"
        ) from error
    if not hasattr(module, attribute):
        raise InputError(f"{what} {name!r}: {attribute!r} does not exist in module {module_name}")
    return getattr(module, attribute)


_CODE: dict[str, tuple[object, str]] = {}
"""What :func:`code_behind` found, with the object that was there then: a module that is loaded again has another."""


def code_behind(name: str) -> str:
    """SHA-256 of the code of ``module:object``, which has been imported; "" where there is no file, as in a notebook.

    Of the files of that module and of the one of its package that defines the object, as they were when first asked.
    """
    module_name, _, attribute = name.partition(":")
    module = importlib.import_module(module_name)
    known = getattr(module, attribute, None)
    if name not in _CODE or _CODE[name][0] is not known:
        origin = str(getattr(known, "__module__", ""))
        inner = sys.modules.get(origin) if origin.partition(".")[0] == module_name.partition(".")[0] else None
        named = dict.fromkeys(Path(getattr(one, "__file__", None) or "") for one in (module, inner))
        sums = [hashlib.sha256(file.read_bytes()).digest() for file in named if file.is_file()]
        _CODE[name] = known, f"sha256:{hashlib.sha256(b''.join(sums)).hexdigest()}" if sums else ""
    return _CODE[name][1]
