"""Words and numbers as a reader gets them: numbers rounded outward, hostile text made visible."""

import re
import unicodedata
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal

DIGITS = 3


def _short(value: float, rounding: str) -> str:
    exact = Decimal(value)
    if exact == exact.to_integral_value():
        return str(int(exact))
    digits = DIGITS
    while (near := Context(prec=digits, rounding=rounding).create_decimal(exact)) == 1 and rounding == ROUND_HALF_EVEN:
        digits += 1  # 0.9999 is not "1"
    if abs(near) < Decimal("1e-4"):
        return f"{near:.2e}"
    return format(near.normalize() if near == 1 or rounding == ROUND_HALF_EVEN else near, "f")


def at_most(value: float) -> str:
    """An upper bound with three digits, rounded up: never smaller than it is."""
    return _short(value, ROUND_CEILING)


def at_least(value: float) -> str:
    """A lower bound with three digits, rounded down."""
    return _short(value, ROUND_FLOOR)


def about(value: float) -> str:
    """An observed value with three digits, rounded to nearest; only 1 itself is shown as 1."""
    return _short(value, ROUND_HALF_EVEN)


def percent(value: float, before: str = "") -> str:
    """An observed share of draws: ``all``, or a percentage with three digits, and ``before`` it; only all is all."""
    if value == 1:
        return "all"
    digits = next((n for n in range(DIGITS, 17) if float(f"{100 * value:.{n}g}") < 100), 17)
    return f"{before}{100 * value:.{digits}g} %"


def never_ended(prompts: int, what: str = "draw") -> str:
    """Why nothing is proven of prompts of which every draw was cut before it leaked."""
    return f"every {what} of {plural(prompts, 'prompt')} was cut before it leaked, and no answer was seen to its end"


def level(alpha: float) -> str:
    """An error level with three digits, rounded up; 0.01 is the decimal number, not the float nearest to it."""
    return f"{Context(prec=DIGITS, rounding=ROUND_CEILING).create_decimal(Decimal(repr(alpha))).normalize():f}"


def plural(number: int, word: str) -> str:
    """``1 prompt``, ``1,024 draws``."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def in_bytes(number: float) -> str:
    """``1.5GB``, ``640MB``: as ``--memory`` takes it, rounded up to three digits."""
    unit, name = next(((u, n) for u, n in ((1e9, "GB"), (1e6, "MB")) if number >= u), (1e3, "KB"))
    return f"{float(at_most(number / unit)):g}{name}"


_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_BLANK = frozenset("\u115f\u1160\u3164\uffa0\u2800\u034f\u180b\u180c\u180d")
_LINE = str.maketrans({"\n": "↵", "\t": "⇥"})
_NAMES = {"\0": "NUL", "\a": "BEL", "\b": "BS", "\r": "CR", "\x1b": "ESC", "\x7f": "DEL"}
_STACK = 3


def _code(char: str) -> str:
    return f"⟨{_NAMES.get(char) or f'U+{ord(char):04X}'}⟩"


def visible(text: str, limit: int = 300) -> str:
    """Hostile text on one line, harmless and complete: nothing in it acts, nothing disappears.

    Control characters (terminal escapes among them), direction overrides, invisible characters and lone surrogates are
    shown as codes, line breaks as ↵, all but the first few of stacked accents as codes. What is beyond ``limit``
    characters is cut, and the cut says how much is missing.
    """
    rest = len(text) - limit
    return _spelled(text[:limit]) + (f" … [cut: {rest:,} more characters]" if rest > 0 else "")


def _spelled(text: str) -> str:
    shown, stacked = [], 0
    for char in text.replace("\r\n", "\n").translate(_LINE):
        if " " <= char <= "~":
            shown.append(char)
            stacked = 0
            continue
        kind = unicodedata.category(char)
        stacked = stacked + 1 if kind in ("Mn", "Me") else 0
        hides = kind in _HIDDEN or char in _BLANK or stacked > _STACK or 0xE0100 <= ord(char) <= 0xE01EF
        shown.append(_code(char) if hides else " " if kind == "Zs" else char)
    return "".join(shown)


def brief(text: str, limit: int = 60) -> str:
    """:func:`visible` text for a narrow place: cut with a plain … ."""
    line = _spelled(text[: limit + 1])
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def csv_cell(text: str, limit: int = 32_000) -> str:
    """Text for a CSV cell that no spreadsheet runs: visible, and quoted with ' where it could begin a formula."""
    line = visible(text, limit)
    first = unicodedata.normalize("NFKC", line.lstrip(" '"))[:1]
    return "'" + line if first in tuple("=+-@") or text[:1] in tuple("\t\r\n") else line


_MARKDOWN = re.compile(r"[\\`*_\[\]<>|&~$#@!{}]")


def markdown_cell(text: str, limit: int = 120) -> str:
    """Text for a Markdown table cell: on one line, every character that means something to Markdown as an entity."""
    line = _MARKDOWN.sub(lambda match: f"&#{ord(match[0])};", visible(text, limit))
    return line.replace("://", "&#58;//")


def marked(text: str, secrets: tuple[str, ...]) -> list[tuple[str, bool]]:
    """The text in pieces, those that repeat a secret flagged: whole secrets, or else their longer words."""
    whole = "|".join(re.escape(secret.strip()) for secret in sorted(secrets, key=len, reverse=True) if secret.strip())
    words = {w for secret in secrets for w in re.findall(r"\w+", secret) if len(w) > 3 or w.isdigit()}
    single = r"\b(?:" + "|".join(map(re.escape, sorted(words, key=len, reverse=True))) + r")\b" if words else None
    for pattern in filter(None, (whole, single)):
        pieces = re.split(f"({pattern})", text, flags=re.IGNORECASE)
        if len(pieces) > 1:
            return [(piece, i % 2 == 1) for i, piece in enumerate(pieces) if piece]
    return [(text, False)]
