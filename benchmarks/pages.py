"""Every kind of page as pictures and on paper, checked on the way: ``python benchmarks/pages.py runs/pages``.

Writes NAME.html, NAME-WIDTH[-dark].png and NAME.pdf; ends with 1 where a page scrolls sideways, is hard to read, asks
for anything or runs a script. Needs Chromium and chromedriver.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from browser import Browser
from page_checks import look, paper, picture
from page_kinds import pages


def main(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    faults = 0
    with Browser() as browser:
        for name, file in pages(folder).items():
            for width in (1280, 390):
                for dark in (False, True):
                    wrong = look(browser, file, width=width, dark=dark)
                    picture(browser, folder / f"{name}-{width}{'-dark' if dark else ''}.png")
                    faults += len(wrong)
                    for fault in wrong:
                        print(f"{name}, {width} px{', dark' if dark else ''}: {fault}")
            print(f"{name}: {paper(browser, folder / f'{name}.pdf')} pages of paper, {file.stat().st_size:,} bytes")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/pages")))
