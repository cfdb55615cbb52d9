"""The promises about the house itself."""

import ast
import inspect
import subprocess
import sys
import typing
from functools import cached_property
from pathlib import Path

import leakbound

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "leakbound"


def fresh(code):
    """What a fresh interpreter prints for the code."""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    return run.stdout.strip()


def test_nothing_loads_torch_before_it_is_needed():
    modules = [
        "leakbound", "leakbound.bounds", "leakbound.scoring", "leakbound.runs.store", "leakbound.results.audit",
        "leakbound.auditing", "leakbound.report", "leakbound.cli", "leakbound.models", "leakbound.unlearning.config",
        "leakbound.reading.pairs", "leakbound.importing",
    ]  # fmt: skip
    code = f"""
import importlib, sys
for module in {modules}:
    importlib.import_module(module)
    print([(module, m) for m in ("torch", "transformers", "datasets") if m in sys.modules])
"""
    assert set(fresh(code).splitlines()) == {"[]"}


def test_the_command_line_imports_what_a_command_needs():
    slow = ["torch", "transformers", "datasets", "pandas", "pyarrow", "numpy", "scipy", "sklearn", "matplotlib", "nltk"]
    code = f"""
import sys
from leakbound.cli import app
def loaded():
    print([name for name in {slow} if name in sys.modules], [m for m in sys.modules if m.startswith("leakbound.cli.")])
loaded()
app["view"].assemble_argument_collection()
loaded()
"""
    before, after = fresh(code).splitlines()
    listed = fresh(f"""
import sys
from leakbound.cli import main
main([])
print([name for name in {slow} if name in sys.modules])""")
    assert "Prove what a model can leak" in listed  # what each command says of itself, and nothing of it imported
    assert listed.endswith("[]")
    assert before == "[] ['leakbound.cli.app']"
    assert after == "[] ['leakbound.cli.app', 'leakbound.cli.viewing']"


def test_exports_are_complete_and_real():
    for name in leakbound.__all__:
        assert getattr(leakbound, name) is not None
    stub = ast.parse((SOURCE / "__init__.pyi").read_text())
    imported = {alias.name for node in ast.walk(stub) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert imported == set(leakbound.__all__)


def test_every_public_error_is_exported():
    from leakbound import errors

    named = {k for k, v in vars(errors).items() if isinstance(v, type) and issubclass(v, errors.LeakboundError)}
    assert named <= set(leakbound.__all__)


ATTRIBUTES = {
    "How": "Demand.how",
    "Asked": "Finding.worst",
    "Check": "Verification.checks", "Compared": "Comparison.models", "Difference": "Line.gap",
    "Diversity": "Compared.diversity", "Fault": "Attestation.faults", "Imported": "Import.log",
    "Line": "BenchmarkRun.lines", "Look": "PromptAudit.looks", "Pieces": "Run.pieces",
    "Ranking": "Comparison.order", "SeenCompletion": "PromptCertificate.worst", "Server": "OpenAIModel.door",
}  # fmt: skip
"""Types that nobody makes or passes on: they are met as this attribute of what a public function gives back."""


def for_types_only(module):
    """The names that a module imports for its types only."""
    found = {}
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            exec(compile(ast.Module(node.body, []), module.__name__, "exec"), dict(vars(module)), found)
    return found


def types_in(hint):
    """Our types that an annotation is made of."""
    for part in [hint, typing.get_origin(hint)]:
        if isinstance(part, type) and part.__module__.startswith("leakbound"):
            yield part
    for inner in typing.get_args(hint):
        for one in inner if isinstance(inner, list) else [inner]:
            yield from types_in(one)


def types_of(thing):
    """Our types in the signatures of a function, or of a class: its fields, public methods and properties."""
    public = [v for k, v in inspect.getmembers(thing) if k[0] != "_"] if inspect.isclass(thing) else []
    getters = [v.fget if isinstance(v, property) else getattr(v, "func", None) for v in public]
    for part in [thing, *filter(inspect.isroutine, [*public, *getters])]:
        module = sys.modules.get(getattr(part, "__module__", None) or "")
        if module is not None and module.__name__.startswith("leakbound"):
            for hint in typing.get_type_hints(part, localns=for_types_only(module)).values():
                yield from types_in(hint)


def test_the_facade_is_closed_under_its_own_signatures():
    todo = [thing for name in leakbound.__all__ if callable(thing := getattr(leakbound, name))]
    seen = set()
    while todo:
        if (thing := todo.pop()) not in seen and (inspect.isclass(thing) or inspect.isroutine(thing)):
            seen.add(thing)
            todo += types_of(thing)
    met = {thing.__name__: thing for thing in seen}
    assert {"Draw", "Bound", "Repeats", "Sampler"} <= set(met)  # the walk goes into arguments, results and type imports
    assert set(met) - set(leakbound.__all__) == set(ATTRIBUTES)
    for name, where in ATTRIBUTES.items():
        owner, _, attribute = where.partition(".")
        held = inspect.getattr_static(met[owner], attribute, None)
        getter = held.func if isinstance(held, cached_property) else None
        hint = typing.get_type_hints(getter or met[owner])["return" if getter else attribute]
        assert met[name] in types_in(hint), where
        assert met[name].__doc__, name


def test_the_page_of_the_architecture_names_every_file_of_the_tree():
    page = (ROOT / "docs" / "architecture.md").read_text()
    for path in [*SOURCE.glob("[a-z]*.py"), *(p for p in SOURCE.iterdir() if (p / "__init__.py").exists())]:
        assert path.stem in page, f"docs/architecture.md does not name {path.name}"


def test_no_assert_guards_user_input():
    """An assert may only guard against our own mistakes: each one carries a comment that says why."""
    for file in SOURCE.rglob("*.py"):
        lines = file.read_text().splitlines()
        for node in ast.walk(ast.parse("\n".join(lines))):
            if isinstance(node, ast.Assert):
                assert "#" in lines[node.lineno - 1], f"{file}:{node.lineno}: an assert without its reason"
