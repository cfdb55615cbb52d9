import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leakbound.bounds import Bound
from leakbound.report.shown import limits
from leakbound.wording import about, at_least, at_most, brief, csv_cell, level, markdown_cell, marked, percent, visible

FRACTIONS = st.floats(0, 1, allow_nan=False, allow_subnormal=True)


@given(FRACTIONS)
def test_bounds_are_rounded_outward(value):
    assert Decimal(at_most(value)) >= Decimal(value)
    assert Decimal(at_least(value)) <= Decimal(value)
    assert float(at_most(value)) <= max(value * 1.0101, 1e-300)


@given(FRACTIONS)
def test_only_the_ends_are_shown_as_ends(value):
    assert (about(value) == "0") == (value == 0)
    assert (about(value) == "1") == (value == 1)


@pytest.mark.parametrize(
    ("value", "up", "down", "near"),
    [
        (0.0044871, "0.00449", "0.00448", "0.00449"),
        (0.3126, "0.313", "0.312", "0.313"),
        (0.99996, "1", "0.999", "0.99996"),
        (1.0, "1", "1", "1"),
        (0.0, "0", "0", "0"),
        (2e-7, "2.00e-7", "1.99e-7", "2.00e-7"),
        (0.5, "0.5", "0.5", "0.5"),
        (1.3, "1.31", "1.30", "1.3"),
    ],
)
def test_numbers_by_hand(value, up, down, near):
    assert at_most(value) == up
    assert at_least(value) == down
    assert about(value) == near


def test_a_share_is_all_or_a_percentage_and_only_all_is_all():
    said = [percent(x) for x in (1.0, 0.96, 0.07, 0.1016, 0.99999, 1e-6)]
    assert said == ["all", "96 %", "7 %", "10.2 %", "99.999 %", "0.0001 %"]
    assert (percent(1.0, "up to "), percent(0.5, "up to ")) == ("all", "up to 50 %")


def test_levels_are_decimal():
    assert level(0.01) == "0.01"
    assert level(0.00020936) == "0.00021"


def test_limits_follow_the_side():
    bound = Bound("P(leak)", 0.2, 0.10004, 0.30001, 0.01, "both", 10, "m")
    assert limits(bound) == "0.100 to 0.301"
    assert limits(Bound("P(leak)", 0.2, 0.0, 0.30001, 0.01, "upper", 10, "m")) == "≤ 0.301"
    assert limits(Bound("P(leak)", 0.2, 0.10004, 1.0, 0.01, "lower", 10, "m")) == "≥ 0.100"


@given(st.text(alphabet=st.characters(), max_size=400))
def test_visible_text_is_one_harmless_line(text):
    line = visible(text, 200)
    assert line.isprintable()
    assert "\n" not in line
    line.encode()  # no lone surrogates
    assert not set(line) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u200b\u00ad")
    assert ("[cut: " in line) >= (len(text) > 200)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain Zürich 東京 שלום 🙂", "plain Zürich 東京 שלום 🙂"),
        ("\x1b[31mred", "⟨ESC⟩[31mred"),
        ("a\nb\r\nc\td", "a↵b↵c⇥d"),
        ("\u202etfel", "⟨U+202E⟩tfel"),
        ("\ud800", "⟨U+D800⟩"),
        ("x\u0300\u0301\u0302\u0303", "x\u0300\u0301\u0302⟨U+0303⟩"),
        ("\U000e0041", "⟨U+E0041⟩"),
        ("\u3164\u00a0.", "⟨U+3164⟩ ."),
    ],
)
def test_visible_by_hand(text, shown):
    assert visible(text) == shown


def test_long_text_is_cut_in_sight():
    assert visible("x" * 5300, 300) == "x" * 300 + " … [cut: 5,000 more characters]"
    assert brief("x" * 61) == "x" * 59 + "…"
    assert brief("a … [cut: this is text") == "a … [cut: this is text"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", "\n=1", " =1", "'=1", "＝1", "'' @x"])
def test_formulas_are_quoted(text):
    assert csv_cell(text).startswith("'")


@pytest.mark.parametrize("text", ["x = 1", "1-2", "", "a@b", "(=1)"])
def test_other_cells_are_left_alone(text):
    assert csv_cell(text) == text


def test_markdown_cells():
    cell = markdown_cell("a | b\n`c` **d** <script> ![x](http://e.example) \\| $x$ @you")
    assert not set(cell) & set("|\n`*<>[]\\$@!")
    assert "://" not in cell
    assert cell.startswith("a &#124; b↵&#96;c&#96;")


def test_secrets_are_marked():
    assert marked("It was Tarn Hollow, yes", ("tarn hollow",)) == [
        ("It was ", False),
        ("Tarn Hollow", True),
        (", yes", False),
    ]
    assert marked("near the hollow", ("Tarn Hollow",)) == [("near the ", False), ("hollow", True)]
    assert marked("x", ("(",)) == [("x", False)]
    assert "".join(piece for piece, _ in marked("aaa", ("a",))) == "aaa"
    assert not math.isnan(len(marked("", ("a",))))
