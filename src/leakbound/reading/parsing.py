"""Text and JSON that somebody else wrote: every defect is named with the file and the line.

Text is UTF-8, with or without a byte order mark. A line ends with a line feed, and before it perhaps a carriage return:
U+2028, U+0085 and their like end no line, for JSON leaves them inside its strings as they are.
"""

import json
import re
from pathlib import Path
from typing import Any, NoReturn

from leakbound.errors import PromptsError


def read_bytes(path: Path, most: int = -1) -> bytes:
    """The bytes of a file, all or the first. PromptsError for one that is missing, a folder, or cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(most)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise PromptsError(f"{path}: there is no such file") from error
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise PromptsError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


def read_text(path: Path) -> str:
    """The text of a file. PromptsError for what :func:`read_bytes` refuses, and for what is not UTF-8."""
    return decode(read_bytes(path), path)


def decode(content: bytes, file: object) -> str:
    """The text in the bytes of a file."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in content[:2]:
        raise PromptsError(f"{file}: this is UTF-16 or UTF-32 text: save it as UTF-8")
    try:
        return content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise PromptsError(f"{file}, line {line}: not UTF-8 text (byte {error.start}): save it as UTF-8") from error


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in the file of another tool; NaN in it stays, for who reads a number checks it."""
    data = parse(read_text(path), path, foreign=True)
    if not isinstance(data, dict):
        raise PromptsError(f"{path}: the file holds a {type(data).__name__}, not an object")
    return data


def parse(text: str, file: object, line: int = 1, *, foreign: bool = False) -> Any:
    """The JSON value in a text that begins at this line of a file.

    :raises PromptsError: broken JSON, a key that stands twice in one object, nesting or a number without measure, and
        NaN or Infinity unless ``foreign``.
    """
    try:
        return json.loads(
            text, object_pairs_hook=_unique, parse_int=_whole, parse_constant=None if foreign else _constant
        )
    except json.JSONDecodeError as error:
        place = f"{file}, line {line + error.lineno - 1}"
        cut = "; was it cut off?" if error.msg.startswith("Unterm") or error.pos >= len(text.rstrip()) else ""
        raise PromptsError(f"{place}: broken JSON: {error.msg} (column {error.colno}){cut}") from error
    except _FaultError as fault:
        raise PromptsError(f"{file}, line {line + _lines_before(text, fault.word)}: {fault}") from None
    except RecursionError:
        raise PromptsError(f"{file}, line {line}: lists or objects are nested too deep: flatten them") from None


class _FaultError(Exception):
    """What JSON's grammar lets pass; ``word`` is the number that it is about, or the key, quoted."""

    def __init__(self, said: str, word: str) -> None:
        super().__init__(said)
        self.word = word


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _FaultError(f"{key!r:.60} stands twice in one object: leave one", f'"{key}"')
            seen.add(key)
    return found


def _whole(digits: str) -> int:
    try:
        return int(digits)
    except ValueError:  # Python converts no more than some thousand digits
        raise _FaultError(f"a number of {len(digits):,} digits: give it as a text", digits) from None


def _constant(word: str) -> NoReturn:
    raise _FaultError(f"{word} is no JSON: give a number, or null where there is none", word)


_WORD = re.compile(r'"(?:[^"\\]++|\\.)*+"|[{}]|-?(?:NaN|Infinity|\d++)', re.DOTALL)
_COLON = re.compile(r"\s*:")


def _lines_before(text: str, word: str) -> int:
    """The line breaks before a number, or before a quoted key that stands a second time in the object that is open."""
    open_objects: list[set[str]] = []
    for match in _WORD.finditer(text):
        found = match[0]
        if found == "{":
            open_objects.append(set())
        elif found == "}":
            open_objects.pop()
        elif found[0] == '"':
            if not (open_objects and _COLON.match(text, match.end())):
                continue
            found = f'"{json.loads(found)}"'  # without its escapes
            if found in open_objects[-1] and found == word:
                return text.count("\n", 0, match.start())
            open_objects[-1].add(found)
        elif found == word:
            return text.count("\n", 0, match.start())
    return 0  # pragma: no cover - the parser has met the word
