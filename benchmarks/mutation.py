"""Mutation testing: would a module's own tests notice one changed operator, limit, order or number?

A seeded sample of one-operator changes is made to a copy of the source, and the tests of the module run against each. A
change that no test notices is a survivor: either a hole in the tests, or a change without effect, which then stands in
tests/mutation_equivalents.txt with the reason. Each change meets the tests of its module that reach the changed lines,
the fastest first. Results are kept in runs/mutation.jsonl: a run that was stopped goes on.
Run: python benchmarks/mutation.py [--module runs/store] [--per-module 60] [--seed 0]

Not mutmut 3: it leaves out decorated functions (every property) and code outside functions. Not cosmic-ray: it writes
into the source tree and knows neither min and max nor the order of sorted, nor samples.
"""

import argparse
import ast
import contextlib
import hashlib
import importlib
import json
import os
import pickle
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import pytest
from mutants import mutants

ROOT = Path(__file__).resolve().parents[1]
TESTS = {
    "runs/store": "tests/runs/test_run_folder.py tests/runs/test_store.py",
    "runs/whole": "tests/runs/test_run_folder.py tests/runs/test_store.py",
    "runs/layout": "tests/runs/test_layout.py",
    "runs/files": "tests/runs/test_files.py tests/results/test_audit.py",
    "results/audit": "tests/results/test_audit.py",
    "report/saying": "tests/results/test_audit.py tests/report/test_findings.py tests/report/test_tables.py",
    "report/findings": "tests/report/test_findings.py tests/report/test_tables.py",
    "auditing/comparing": "tests/auditing/test_comparison_numbers.py tests/auditing/test_comparing.py",
    "auditing/pairing": "tests/auditing/test_pairing.py tests/auditing/test_comparison_numbers.py",
    "auditing/certifying": "tests/auditing/test_certificate_numbers.py tests/auditing/test_certifying.py",
    "auditing/concluding": "tests/auditing/test_concluding.py",
    "auditing/stopping": "tests/auditing/test_stopping.py",
    "auditing/drawing": "tests/auditing/test_drawing.py",
    "auditing/scoring": "tests/auditing/test_drawing.py",
    "auditing/planning": "tests/auditing/test_planning.py",
    "bounds/average": "tests/bounds/test_average.py tests/bounds/engines/test_product.py",
    "bounds/proportion": "tests/bounds/test_proportion.py",
    "bounds/engines/product": "tests/bounds/engines/test_product.py",
    "bounds/engines/order": "tests/bounds/engines/test_order.py",
    "bounds/engines/binary": "tests/bounds/engines/test_binary.py",
    "bounds/groups": "tests/bounds/test_groups.py",
    "bounds/looks": "tests/bounds/test_sequences.py",
    "bounds/sequences": "tests/bounds/test_sequences.py",
    "bounds/engines/steady": "tests/bounds/engines/test_steady.py",
    "scoring/new_words": "tests/scoring/test_new_words.py",
    "scoring/complying": "tests/scoring/test_complying.py",
    "models/openai": "tests/models/test_openai.py tests/models/test_openai_requests.py "
    "tests/models/test_openai_cases.py",
    "models/requests": "tests/models/test_requests.py tests/models/test_openai_requests.py "
    "tests/models/test_openai_cases.py",
    "server": "tests/test_server.py tests/models/test_openai.py tests/models/test_openai_requests.py",
}
"""The module's own tests: the files that claim to hold it."""
GOAL = 0.9


class Trace:
    """A pytest plugin that notes which lines of one file each test runs, and how long each test takes."""

    def __init__(self, file):
        self.file, self.test, self.lines, self.seconds = str(file), "", defaultdict(set), {}

    def __call__(self, frame, event, _):
        if frame.f_code.co_filename == self.file:
            self.lines[self.test].add(frame.f_lineno)
            return self
        return None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        self.test, begin = item.nodeid, time.perf_counter()
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid], self.test = time.perf_counter() - begin, ""

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, request):
        test, self.test = self.test, self.test if request.scope == "function" else request.node.nodeid
        try:
            return (yield)  # what a module's fixture runs is run for all the module's tests
        finally:
            self.test = test


def run_tests(work, chosen, limit, trace=None):
    """pytest's exit code in a forked process that sees the copied source; 124 where it takes longer than ``limit``."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_AS, (16 * 2**30,) * 2)
        log = os.open(work / "log", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.path.insert(0, str(work / "src"))
        sys.dont_write_bytecode = True
        os.environ.update(PYTHONPATH=str(work / "src"), PYTHONDONTWRITEBYTECODE="1")
        (work / "chosen").write_text("\n".join(chosen))
        if trace is not None:
            import threading

            threading.settrace(trace)
            sys.settrace(trace)
        options = ["-x", "-q", "-p", "no:cacheprovider", f"--basetemp={work / 'tmp'}"]
        code = pytest.main([*options, f"@{work / 'chosen'}"], plugins=[] if trace is None else [trace])
        if trace is not None:
            sys.settrace(None)
            loaded = [n for n, m in sys.modules.items() if "site-packages" in (getattr(m, "__file__", None) or "")]
            (work / "trace").write_bytes(pickle.dumps((dict(trace.lines), trace.seconds, loaded)))
        os._exit(code)
    end = time.monotonic() + limit
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return 124


def digest(folder):
    """A hash of the Python files of a folder."""
    texts = [f.read_bytes() for f in sorted(folder.rglob("*.py"))]
    return hashlib.sha256(b"\0".join(texts)).hexdigest()[:16]


def equivalents():
    """Changes that are known to have no effect, with the reason: blocks of module, line, change, reason."""
    text = (ROOT / "tests" / "mutation_equivalents.txt").read_text(encoding="utf-8")
    blocks = [b.strip().split("\n") for b in text.split("\n\n") if b.strip() and not b.startswith("#")]
    return {
        (m.strip(), line.strip(), change.strip()): " ".join(map(str.strip, why)) for m, line, change, *why in blocks
    }


def examine(module, work, args, known, log, earlier):
    """Mutate one module; returns its counts, and prints what survives."""
    original, copied = ROOT / "src/leakbound" / f"{module}.py", work / "src/leakbound" / f"{module}.py"
    source, files, begin = original.read_text(encoding="utf-8"), TESTS[module].split(), time.perf_counter()
    lines, trace = source.split("\n"), Trace(copied)
    if run_tests(work, files, 1800, trace):
        sys.exit(f"{module}: its tests fail without a change:\n{(work / 'log').read_text()[-3000:]}")
    reached, seconds, loaded = pickle.loads((work / "trace").read_bytes())
    for name in loaded:  # so that forked processes find the libraries loaded
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    copied.write_text(ast.unparse(ast.parse(source)), encoding="utf-8")
    whole = time.perf_counter()
    if run_tests(work, files, 1800):
        sys.exit(f"{module}: its tests fail where its source is only written anew")
    limit = 5 + 4 * (time.perf_counter() - whole)
    state = [digest(ROOT / "src"), f"{digest(ROOT / 'tests')} {TESTS[module]}"]
    counts = {"killed": 0, "survived": 0, "equivalent": 0}
    for place, text, line, within, change in mutants(source, f"{args.seed}|{module}"):
        if counts["killed"] + counts["survived"] >= args.per_module:
            break
        key = [module, lines[line - 1].strip(), change]
        same = json.dumps([*key, place])
        outcome, before = earlier.get(same, (None, None))
        kept = outcome == "killed" and args.keep_killed and before[0] == state[0]
        if before != state and not kept:
            copied.write_text(text, encoding="utf-8")
            span = set(range(within[0], within[1] + 1))
            holders = tuple(name for name, seen in reached.items() if seen & span)  # "" for what an import runs
            tests = sorted((t for t in seconds if t.startswith(holders)), key=lambda t: seconds[t])
            code = run_tests(work, tests if tests and "" not in holders else files, limit)
            if code in (4, 5):  # the change renamed the tests: now all of them
                code = run_tests(work, files, limit)
            outcome = "killed" if code else "survived"
            log.write(json.dumps({"mutant": same, "outcome": outcome, "state": state}) + "\n")
            log.flush()
        if outcome == "survived" and tuple(key) in known:
            outcome = "equivalent"
        elif outcome == "survived":
            print(f"  {module}.py:{line}: {key[1]}\n    {change}", flush=True)
        elif tuple(key) in known:
            print(f"  {module}.py:{line}: killed, but listed as equivalent: {change}", flush=True)
        counts[outcome] += 1
    copied.write_text(source, encoding="utf-8")
    return counts, time.perf_counter() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--module", action="append", choices=TESTS, help="may be repeated; default: all")
    parser.add_argument("--per-module", type=int, default=60, help="changes of each, without the equivalent ones")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep-killed", action="store_true", help="tests were only added: do not kill again")
    args = parser.parse_args()
    os.chdir(ROOT)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    file = ROOT / "runs" / "mutation.jsonl"
    file.parent.mkdir(exist_ok=True)
    past = [json.loads(r) for r in file.read_text().splitlines() if r.endswith("}")] if file.exists() else []
    earlier, known, rows = {r["mutant"]: (r["outcome"], r["state"]) for r in past}, equivalents(), []
    with tempfile.TemporaryDirectory() as folder, file.open("a") as log:
        work = Path(folder)
        shutil.copytree(ROOT / "src", work / "src", ignore=shutil.ignore_patterns("__pycache__"))
        for module in args.module or TESTS:
            rows.append((module, *examine(module, work, args, known, log, earlier)))
    print(f"\nseed {args.seed}\n{'module':24} mutants  killed  equivalent  survived   score  seconds")
    for module, c, seconds in rows:
        number = c["killed"] + c["survived"]
        print(f"{module:24} {number:7d} {c['killed']:7d} {c['equivalent']:11d} {c['survived']:9d} "
              f"{c['killed'] / number:7.1%} {seconds:8.0f}")  # fmt: skip
    sys.exit(any(c["killed"] < GOAL * (c["killed"] + c["survived"]) for _, c, _ in rows))


if __name__ == "__main__":
    main()
