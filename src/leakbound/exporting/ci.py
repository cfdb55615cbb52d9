"""The verdicts of a policy for machines that build: JUnit XML, and the annotations of GitHub."""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from leakbound.results.check import Verdicts
from leakbound.wording import level

UNSPOKEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML has no spelling for."""
LEVELS = {"refuted": "error", "open": "warning", "proven": "notice"}


def to_junit(found: Verdicts) -> str:
    """JUnit XML: a test case for each verdict; refuted is a failure, open an error, proven passes."""
    number = {verdict: sum(one.verdict == verdict for one in found.findings) for verdict in LEVELS}
    suite = Element(
        "testsuite", name="leakbound check", tests=str(len(found.findings)), failures=str(number["refuted"]),
        errors=str(number["open"]), skipped="0",
    )  # fmt: skip
    properties = SubElement(suite, "properties")
    for name, value in (("alpha", level(found.alpha)), ("policy", found.policy), ("verdict", found.verdict)):
        SubElement(properties, "property", name=name, value=_spoken(value))
    for one in found.findings:
        case = SubElement(suite, "testcase", classname=_spoken(one.model), name=_spoken(one.name))
        if one.verdict != "proven":
            kind = "failure" if one.verdict == "refuted" else "error"
            SubElement(case, kind, type=one.verdict, message=_spoken(str(one))).text = _spoken(one.details)
        SubElement(case, "system-out").text = _spoken(f"{one}. Bound: {one.found}, from {one.num_draws:,} draws.")
    indent(suite)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + tostring(suite, encoding="unicode") + "\n"


def to_annotations(found: Verdicts) -> str:
    """One workflow command of GitHub Actions for each verdict: an error, a warning or a notice."""
    return "".join(
        f"::{LEVELS[one.verdict]} title={_escaped(one.name, ':,')}::{_escaped(f'{one}. {one.details}')}\n"
        for one in found.findings
    )


def _spoken(text: str) -> str:
    return UNSPOKEN.sub("�", text)


def _escaped(text: str, also: str = "") -> str:
    """As a workflow command takes it: percent first, then what would end it."""
    for c in "%\r\n" + also:
        text = text.replace(c, f"%{ord(c):02X}")
    return text
