"""The demo's whole story on a very small world."""

import time
from io import StringIO

import pytest
from rich.console import Console

from leakbound.demo import DemoConfig, run_demo
from leakbound.errors import InputError
from leakbound.results import Audit


@pytest.mark.slow
def test_the_story_is_told_whole_and_only_once(tmp_path):
    config = DemoConfig(out=tmp_path / "demo", num_people=30, num_samples=100)
    told = StringIO()
    audits = run_demo(config, console=Console(file=told, width=160))
    assert {"original", "retrained", "grad_diff", "npo"} <= set(audits)
    for name, audit in audits.items():
        assert Audit.load(tmp_path / "demo" / "runs" / name) == audit
        assert (tmp_path / "demo" / "runs" / name / "report.html").exists()
        assert all(p.num_samples == 100 for p in audit.prompts)
        assert name in told.getvalue()
    assert max(p.leak_rate for p in audits["original"].prompts) > 0.5, "the original never learned its secrets"
    assert "guess" in told.getvalue()
    start = time.perf_counter()
    assert run_demo(config, console=Console(file=StringIO())) == audits
    print(f"the second telling took {time.perf_counter() - start:.1f} s")
    with pytest.raises(InputError, match="the folder of a demo with"):
        run_demo(DemoConfig(out=tmp_path / "demo", num_people=31), console=Console(file=StringIO()))
