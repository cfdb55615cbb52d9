"""``python docs/pictures.py``: the report of a small audit as docs/pictures/NAME.png, by a headless Chromium.

The model is a fake with known leak probabilities: the picture shows the page, it measures nothing.
"""

import subprocess
import tempfile
from pathlib import Path

from leakbound import FakeModel, audit, report
from leakbound.suites.biographies import biographies

OUT = Path(__file__).parent / "pictures"
PICTURES = {"report.png": 1, "report-dark.png": 0}
"""The files, each with the number that Chromium has for its colours."""
secrets = biographies(num_people=24, seed=0).prompts("forget")
leaks = dict(zip((prompt.id for prompt in secrets), (0.36, 0.09, 0.02, 0, 0, 0, 0, 0), strict=False))

with tempfile.TemporaryDirectory() as place:
    guess = audit(FakeModel(), secrets, scorer="contains", num_samples=1024, progress=False)
    found = audit(FakeModel(leaks=tuple(leaks.items())), secrets, scorer="contains", num_samples=1024, progress=False)
    page = report.write_html(found, Path(place) / "report.html", guess)
    command = ["chromium", "--headless", "--no-sandbox", "--hide-scrollbars", f"--user-data-dir={place}/browser"]
    for name, colours in PICTURES.items():
        size = ["--window-size=1100,820", f"--screenshot={OUT / name}"]
        light = f"--blink-settings=preferredColorScheme={colours}"
        subprocess.run([*command, *size, light, page.as_uri()], check=True, capture_output=True, timeout=120)
