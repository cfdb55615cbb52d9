import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from report_fixture import make_audit

from leakbound.report import plots, style
from leakbound.report.findings import find


@pytest.mark.parametrize("size", [1, 5, 48])
@pytest.mark.parametrize("width", [style.WIDE, style.NARROW])
def test_every_prompt_is_drawn_with_its_numbers(size, width):
    found = find(make_audit(size), make_audit(size, kind="guess", seed=1))
    top, bottom = plots.greedy_vs_sampled(found, width).axes
    drawn = np.concatenate([line.get_ydata() for line in bottom.lines if line.get_marker() in "^soD"])
    caps = np.concatenate([line.get_ydata() for line in bottom.lines if line.get_marker() == "_"])
    scores = np.concatenate([line.get_ydata() for line in top.lines if line.get_marker() in ("^", "s", "o", "D")])
    prompts = found.audit.prompts
    assert sorted(drawn) == sorted(p.leak.estimate for p in prompts)
    assert sorted(caps) == sorted(p.leak_jointly.upper for p in prompts)
    assert sorted(scores) == sorted(p.greedy_score for p in prompts)
    guesses = [path[0, 1] for path in bottom.collections[-1].get_segments()]
    assert sorted(guesses) == sorted(p.leak.estimate for p in found.guess.prompts)


def test_the_drawn_band_is_the_band():
    found = find(make_audit(5))
    row = found.rows[0]
    ax = plots.survival_panel(found, row).axes[0]
    outline = ax.collections[0].get_paths()[0].vertices
    band = row.result.survival
    for x in np.linspace(0.005, 0.995, 100):
        sides = outline[np.abs(outline[:, 0] - x) < 0.0051]
        assert sides[:, 1].max() >= band.upper_at(x) - 1e-12
        assert sides[:, 1].min() <= band.lower_at(x) + 1e-12


def test_the_average_curve_averages():
    audit = make_audit(5)
    x, y = plots.average_curve(audit)
    at_half = y[np.searchsorted(x, 0.49)]
    assert at_half == pytest.approx(np.mean([p.survival.estimate[49] for p in audit.prompts]))
    assert y[-1] == 0


def test_svg_is_well_formed_and_local():
    found = find(make_audit(12))
    one = style.svg(plots.greedy_vs_sampled(found), "one", 'a "title" <x>')
    two = style.svg(plots.greedy_vs_sampled(found), "two", "b")
    ids = [{e.get("id") for e in ET.fromstring(text).iter() if e.get("id")} for text in (one, two)]
    assert not ids[0] & ids[1]
    assert "http" not in one.replace("http://www.w3.org/", "")
    assert one == style.svg(plots.greedy_vs_sampled(found), "one", 'a "title" <x>')


def test_hostile_ids_are_no_mathematics():
    from dataclasses import replace

    audit = make_audit(3)
    evil = [
        replace(p, prompt=replace(p.prompt, id=f"$\\frac{{{i}$ </text><script>東京\x1b"))
        for i, p in enumerate(audit.prompts)
    ]
    audit = replace(audit, prompts=tuple(evil))
    for name, figure in plots.figures(audit).items():
        text = style.svg(figure, name, evil[0].prompt.id)
        assert "<script" not in text
        ET.fromstring(text)


@pytest.mark.slow
def test_importing_needs_no_matplotlib_and_plotting_no_pyplot():
    code = (
        "import sys, leakbound.report.plots, leakbound.report.page\n"
        "assert not {'matplotlib', 'jinja2', 'rich', 'torch'} & set(sys.modules)\n"
        "sys.path.insert(0, 'tests/support')\n"
        "from report_fixture import make_audit\n"
        "leakbound.report.to_html(make_audit(3))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
