"""The viewer in a real browser: filter, open, compare, keyboard only, deep links, and completions that are hostile."""

import threading
from contextlib import closing

import pytest
from browser import CHROMIUM, DRIVER, MISSING, Browser
from made_audits import ask

from leakbound import audit
from leakbound.models import FakeModel
from leakbound.viewing.asking import Shelf
from leakbound.viewing.folder import open_folders
from leakbound.viewing.found import run_folders
from leakbound.viewing.serving import Viewer

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.skipif(not (CHROMIUM and DRIVER), reason=MISSING)]

LEAKS = [0.9, 0.2, 0.0, 0.6, 0.0, 0.05] + [0.0] * 120
BAD = "<script>document.title='hacked'</script><img src=x onerror=\"document.title='hacked'\"><b>bold</b> alpha"
IDS = "return [...document.querySelectorAll('#body tr')].map(row => row.dataset.id)"
OPEN = "return document.querySelector('#detail h2')?.textContent"
FOCUS = "const e = document.activeElement; return e.id || e.closest('tr')?.dataset.id || e.tagName"


def number(word):
    """How many prompts hold it."""
    return sum(word in str(i) for i in range(len(LEAKS)))


@pytest.fixture(scope="module")
def viewer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    ask(LEAKS, folder / "one")
    ask([0.0, 0.9, *LEAKS[2:]], folder / "two")
    prompts = [{"id": "<i>bad</i>", "text": "<svg onload=alert(1)>?", "target": "<u>alpha</u>"}]
    hostile = FakeModel(leak=0.5, clean=BAD)
    audit(hostile, prompts, scorer="contains", num_samples=20, progress=False, out=folder / "zbad")
    ask(LEAKS[:6], kept := tmp_path_factory.mktemp("kept") / "kept")
    with closing(Viewer(Shelf(open_folders(run_folders([folder], [kept]))))) as viewer:
        threading.Thread(target=viewer.serve_forever, daemon=True).start()
        yield viewer
        viewer.shutdown()


@pytest.fixture(scope="module")
def window():
    with Browser() as it:
        yield it


@pytest.fixture
def at(viewer, window):
    def go(hash="", **shape):
        window.shape(**{"width": 1280, "height": 900, **shape})
        window.go("about:blank")
        window.go(viewer.address + hash)
        window.until("return document.body.dataset.ready")
        window.logs()
        return window

    return go


def test_filter_search_and_sort_by_hand(at):
    page = at()
    assert len(page.run(IDS)) == 100  # a page of 126
    page.click("#status button[value=hidden]")
    page.until(f"return ({IDS.removeprefix('return ')}).join() === 'p1,p5'")
    assert "status=hidden" in page.run("return location.hash")
    page.click("#status button[value=hidden]")
    page.click("#q")
    page.press("secret 12")
    page.until(f"return document.getElementById('count').textContent === '{number('12')} of 126 prompts'")
    page.press("Escape")
    page.run("const s = document.getElementById('sort'); s.value = 'leaks'; s.dispatchEvent(new Event('change'))")
    page.until("return location.hash.includes('sort=leaks')")
    assert page.logs() == []


def test_the_keyboard_alone_is_enough(at):
    page = at()
    order = page.run(IDS)
    page.press("j")
    assert page.run(FOCUS) == order[0]
    page.press("j", "ArrowDown", "k")
    assert page.run(FOCUS) == order[1]
    page.press("Enter")
    page.until("return document.querySelector('.answers li')")
    assert page.run(OPEN) == order[1]
    assert page.run("return document.activeElement.tagName") == "H2"
    page.press("j")
    page.until(f"return document.querySelector('#detail h2')?.textContent === '{order[2]}'")
    page.press("n", "n")
    page.until("return document.activeElement.matches('.answers li')")
    assert f"prompt={order[2]}&draw=" in page.run("return location.hash")
    page.press("Escape")
    page.until("return document.getElementById('detail').hidden")
    assert page.run(FOCUS) == order[2]
    page.press("/")
    assert page.run(FOCUS) == "q"
    page.press("secret 5", "Enter")
    page.until(f"return document.getElementById('count').textContent === '{number('5')} of 126 prompts'")
    page.press("Escape", "x", "e")
    assert page.run("return document.getElementById('exported').textContent") == "1 chosen"
    assert page.run("return document.activeElement.matches('#exports a')")
    page.press("?")
    assert page.run("return document.getElementById('keys').open")
    page.press("Escape")
    page.until("return !document.getElementById('keys').open")


def test_tab_goes_through_the_page_in_its_order_and_is_seen(at):
    page = at()
    seen, row = [], page.run(IDS)[0]
    while row not in seen:
        page.press("Tab")
        seen.append(page.run(FOCUS))
        assert len(seen) < 20, seen
        assert page.run("return getComputedStyle(document.activeElement).outlineStyle") != "none", seen[-1]
    places = [seen.index(name) for name in ("run", "other", "help", "q", "sort", "down", row)]
    assert places == sorted(places)


def test_j_at_the_end_of_a_page_brings_the_next(at):
    page = at("#sort=file")
    page.run(
        "document.querySelector('#body tr:nth-child(100) a').focus(); document.querySelector('#rows').scrollTop = 1e6"
    )
    page.until(f"return ({IDS.removeprefix('return ')}).length === 126")


def test_a_link_holds_filter_order_prompt_and_draw(at):
    page = at("#status=hidden,plain&sort=id&down=1&prompt=p1")
    page.until("return document.querySelector('.answers li')")
    assert page.run(IDS) == ["p5", "p3", "p1", "p0"]
    assert page.run(OPEN) == "p1"
    assert page.run("return document.querySelector('#detail mark').textContent") == "alpha 1"
    draw = page.run("return document.querySelector('.answers li.leaks').dataset.draw")
    page = at(f"#prompt=p1&draw={draw}")
    page.until("return document.querySelector('.answers li.current')")
    assert page.run("return document.querySelector('.answers li.current').dataset.draw") == draw
    page = at("#sort=file&prompt=p120")  # on the second page of prompts
    page.until("return document.querySelector('.answers li')")
    assert "p120" in page.run(IDS)
    assert page.run("return document.querySelector('a[aria-current]').closest('tr').dataset.id") == "p120"
    page.click("tr[data-id=p119] a")
    page.until(f"return ({OPEN.removeprefix('return ')}) === 'p119'")
    page.back()
    page.until(f"return ({OPEN.removeprefix('return ')}) === 'p120'")
    page = at("#run=99&prompt=nowhere&sort=beauty")  # no error of a script, and no empty page
    page.until("return document.querySelector('#detail .alert')")
    assert page.logs() == []


def test_two_runs_side_by_side(at):
    page = at("#run=0&other=1&sort=difference&changed=1")
    assert page.run(IDS) == ["p1", "p0"]
    page.press("j", "Enter")
    page.until("return document.querySelectorAll('.answers').length === 2")
    assert page.run("return [...document.querySelectorAll('.sides h3')].map(h => h.firstChild.textContent)") == [
        "one",
        "two",
    ]
    left, right = page.run(
        "return [...document.querySelectorAll('.sides > section')].map(s => s.getBoundingClientRect().left)"
    )
    assert left < right
    assert page.run("return document.querySelectorAll('#detail table tbody tr').length") == 2


def test_hostile_texts_run_nothing_and_nothing_is_loaded_from_elsewhere(at, viewer):
    page = at()
    page.requested()
    page = at("#run=2")
    page.press("j", "Enter")
    page.until("return document.querySelectorAll('.answers li').length >= 2")
    assert page.run(OPEN) == "<i>bad</i>"
    text = page.run("return document.querySelector('#detail').textContent")
    assert BAD in text
    assert page.run("return document.querySelectorAll('main script, main img, main svg, main u').length") == 0
    assert "hacked" not in page.run("return document.title")
    assert page.run("return document.querySelector('.answers mark').textContent") == "<u>alpha</u>"
    asked = [url for url in page.requested() if url.startswith("http")]
    assert asked
    assert all(url.startswith(viewer.address) for url in asked)
    assert page.logs() == []


def test_a_retain_run_speaks_of_right_answers(at):
    page = at("#run=3&prompt=p1")
    page.until("return document.querySelectorAll('.answers li').length >= 2")
    text = page.run("return ['#title', '#tiles', 'main'].map(css => document.querySelector(css).innerText).join(' ')")
    assert "P(right)" in text
    assert "not right" in text
    assert "leak" not in text.lower()
    options = page.run("return [...document.querySelectorAll('main option')].map(option => option.textContent)")
    assert "right answers, most first" in options
    assert not [words for words in options if "leak" in words]
    page.go("about:blank")


CONTRAST = """
const rgb = (c) => c.match(/[\\d.]+/g).map(Number);
const part = (v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
const light = (c) => 0.2126 * part(c[0]) + 0.7152 * part(c[1]) + 0.0722 * part(c[2]);
const behind = (e) => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
  if (/, 0\\)$/.test(c)) continue;
  return c.startsWith('color(') ? rgb(c).slice(0, 3).map((v) => v * 255) : rgb(c); } return [255, 255, 255]; };
const low = [];
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walk.nextNode()) {
  const e = walk.currentNode.parentElement, box = e.getBoundingClientRect();
  if (!walk.currentNode.data.trim() || !box.width || box.right < 0 || e.closest('dialog:not([open])')) continue;
  const [a, b] = [light(rgb(getComputedStyle(e).color)), light(behind(e))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) low.push([walk.currentNode.data.slice(0, 40), ratio, e.outerHTML.slice(0, 80)]);
}
return low;
"""


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("hash", ["", "#prompt=p1", "#run=0&other=1&prompt=p1"])
def test_it_can_be_read(at, width, dark, hash):
    page = at(hash, width=width, dark=dark)
    if hash:
        page.until("return document.querySelector('.answers li')")
    wide, room = page.run("return [document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide <= room
    low = [x for x in page.run(CONTRAST) if 'class="symbol"' not in x[2]]  # symbols say what the word beside them says
    assert low == []
