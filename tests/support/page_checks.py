"""What every page must keep to in a browser: width, contrast, no request, no script; and its pages on paper."""

import base64
import re

CONTRAST = r"""
const numbers = c => (c.match(/[\d.]+/g) || []).map(Number);
const light = v => { v /= 255; return v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; };
const lum = ([r, g, b]) => .2126 * light(r) + .7152 * light(g) + .0722 * light(b);
const over = (top, under, a) => top.slice(0, 3).map((v, i) => v * a + under[i] * (1 - a));
const poor = [];
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let node = walk.nextNode(); node; node = walk.nextNode()) {
  const at = node.parentElement, style = getComputedStyle(at), box = at.getBoundingClientRect();
  if (!node.data.trim() || !box.width || !box.height || style.visibility === 'hidden') continue;
  const behind = [];
  let seen = 1;
  for (let e = at; e; e = e.parentElement) behind.unshift(getComputedStyle(e));
  for (const s of behind) seen *= +s.opacity;
  let paper = matchMedia('(prefers-color-scheme: dark)').matches ? [18, 18, 18] : [255, 255, 255];
  for (const s of behind) {
    const c = numbers(s.backgroundColor), a = c.length > 3 ? c[3] : 1;
    if (c.length) paper = over(c, paper, a);
  }
  const ink = numbers(at instanceof SVGElement ? style.fill : style.color);
  const shown = over(ink, paper, (ink.length > 3 ? ink[3] : 1) * seen);
  const [a, b] = [lum(shown), lum(paper)].sort((x, y) => y - x), ratio = (a + .05) / (b + .05);
  const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && +style.fontWeight >= 700);
  if (ratio < (large ? 3 : 4.5)) poor.push([node.data.trim().slice(0, 40), +ratio.toFixed(2)]);
}
return poor;
"""

LABELS = r"""
const wrong = [];
for (const svg of document.querySelectorAll('svg')) {
  const whole = svg.getBoundingClientRect(), boxes = [];
  if (!whole.width) continue;
  for (const text of svg.querySelectorAll('text')) {
    const at = text.getBoundingClientRect(), said = text.textContent.trim();
    if (!said || !at.width) continue;
    const left = at.left < whole.left - 2, right = at.right > whole.right + 2;
    if (left || right || at.bottom > whole.bottom + 2) wrong.push(["cut off", said]);
    if (!/rotate\(-?[1-9]/.test(text.getAttribute('transform') || '')) {
      for (const [other, b] of boxes) {
        const wide = Math.min(at.right, b.right) - Math.max(at.left, b.left);
        const high = Math.min(at.bottom, b.bottom) - Math.max(at.top, b.top);
        if (wide > 1 && high > .25 * Math.min(at.height, b.height)) wrong.push(['on ' + other, said]);
      }
      boxes.push([said, at]);
    }
  }
}
return wrong;
"""
"""Labels of a figure that lie on each other, or leave it; a box is a bit higher than its letters."""


def look(browser, file, *, width, dark=False):
    """Open a page and say what is wrong with it."""
    browser.shape(width, 900, dark=dark)
    browser.requested()
    browser.go(file.as_uri())
    wrong = []
    wide = browser.run("return document.scrollingElement.scrollWidth")
    if wide > width:
        wrong.append(f"{wide} pixels wide on a screen of {width}")
    wrong += [f"contrast {ratio}: {text}" for text, ratio in browser.run(CONTRAST)]
    wrong += [f"label {what}: {text}" for what, text in browser.run(LABELS)]
    wrong += [f"asked for {url}" for url in browser.requested() if url != file.as_uri()]
    if browser.run("return Boolean(window.ran) || document.scripts.length > 0"):
        wrong.append("a script ran, or is there")
    return wrong


def picture(browser, file):
    """The whole page, as it is opened, as a PNG."""
    file.write_bytes(base64.b64decode(browser.cdp("Page.captureScreenshot", captureBeyondViewport=True)["data"]))


def paper(browser, file=None):
    """How many pages of A4 it takes; with ``file`` they are written there."""
    data = browser.cdp("Page.printToPDF", preferCSSPageSize=True, paperWidth=8.27, paperHeight=11.69)["data"]
    pdf = base64.b64decode(data)
    if file is not None:
        file.write_bytes(pdf)
    return len(re.findall(rb"/Type\s*/Page\b(?!s)", pdf))
