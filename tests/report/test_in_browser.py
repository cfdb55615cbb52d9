"""Every kind of page, looked at by Chromium: width, contrast, requests, scripts, paper, size."""

from dataclasses import replace
from html.parser import HTMLParser

import pytest
from browser import CHROMIUM, DRIVER, MISSING, Browser
from page_checks import look, paper
from page_kinds import audits, pages

from leakbound import report

pytestmark = [
    pytest.mark.browser,
    pytest.mark.renders,
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason=MISSING),
]


@pytest.fixture(scope="module")
def browser():
    with Browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return pages(tmp_path_factory.mktemp("pages"))


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_every_page_is_readable_and_quiet(browser, made, width, dark):
    wrong = {name: look(browser, file, width=width, dark=dark) for name, file in made.items()}
    assert not any(wrong.values()), wrong


def test_the_checks_can_fail(browser, tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text('<p style="width:2000px;color:#bbb">pale</p><script>window.ran = 1</script><img src="x.png">'
                   '<svg width="90" height="40"><text x="5" y="20">one</text><text x="9" y="22">two</text>'
                   '<text x="80" y="20">outside</text></svg>')  # fmt: skip
    said = " ".join(look(browser, bad, width=390))
    for part in ("pixels wide", "contrast", "asked for", "a script ran", "label on one", "label cut off"):
        assert part in said


def test_an_audit_of_48_prompts_fits_on_six_pages_of_paper(browser, made):
    browser.go(made["audit"].as_uri())
    assert paper(browser) <= 6


def test_5000_prompts_stay_below_2_megabytes_and_the_worst_are_shown():
    audit, _ = audits()
    many = tuple(
        replace(p, prompt=replace(p.prompt, id=f"{p.prompt.id}-{i}")) for i in range(105) for p in audit.prompts
    )
    page = report.to_html(replace(audit, prompts=many[:5000]))
    assert len(page.encode()) < 2_000_000
    assert "The 400 worst prompts of 5,000" in page
    assert "audit.json beside this page holds all of them" in page


class Alts(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.said = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "svg":
            self.said.append(dict(attrs)["aria-label"])


def test_every_picture_says_what_was_found(made):
    for file in made.values():
        assert all(any(c.isdigit() for c in text) for text in Alts(file.read_text(encoding="utf-8")).said)
