"""``make docs``: pages made from commands and notebooks, the site by Zensical, and what may not be missing.

Roles in docstrings become links or code. A public name without an entry, a page without a place in the navigation and
a dead link are errors.
"""

import base64
import json
import re
import subprocess
import sys
from pathlib import Path

import griffe
import yaml

DOCS = Path(__file__).resolve().parent
ROOT, SITE = DOCS.parent, DOCS.parent / "site"
ROLE = re.compile(r":(attr|class|data|func|meth|mod):<code>(~?)([\w.]+)</code>")
RAW = re.compile(r":[a-z]+:<code>[^<]*</code>")
EXAMPLE = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)
PUBLIC = ("leakbound", "leakbound.bounds")


class Examples(griffe.Extension):
    """Examples in docstrings as code, and > as itself: in Markdown both would be quotations."""

    def on_instance(self, *, obj, **_):
        """Fence each example, up to the next empty line."""
        if obj.docstring is not None:
            text = re.sub(r"^>(?!>> )", r"\\>", obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = EXAMPLE.sub("```pycon\n\\g<0>\n```", text)


def commands() -> str:
    """The page of all commands and options, from the commands themselves."""
    from leakbound.cli import app

    made = app.generate_docs(output_format="markdown")
    body = re.sub(r"\n +(?=\S)", " ", made[made.index("\n**Commands**") :].replace("<", "&lt;"))
    body = re.sub(r"\* `--config PATH`:.*\n", "", body).replace("**Parameters**:\n\n\n", "")
    return (
        "# Commands\n\nMade from the commands themselves; `leakbound COMMAND --help` says the same. Every command "
        "takes `--config FILE`, options from a [file](configuration.md). An error is one line on standard error: exit "
        "code 2 for input that cannot be used, 4 for the disk, 130 after Ctrl-C, which keeps what is done.\n"
        f"{body.rstrip()}\n"
    )


def page_of(notebook: Path) -> str:
    """A notebook with its outputs in Markdown; pictures stand in the page."""
    parts = []
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(text)
            continue
        kind, text = ("sh", text.partition("\n")[2]) if text.startswith("%%bash") else ("python", text)
        parts.append(f"```{kind}\n{text}\n```")
        parts += [shown for output in cell["outputs"] if (shown := _output(output))]
    source = f"[This page as a notebook]({notebook.name}), which the tests run again."
    return "\n\n".join([parts[0], source, *parts[1:]]) + "\n"


def _output(output) -> str:
    data = output.get("data", {})
    if "image/png" in data:
        base64.b64decode(data["image/png"])
        return f"![what the cell draws](data:image/png;base64,{''.join(data['image/png']).strip()})"
    if "text/html" in data:
        return re.sub(r"\n\s*\n", "\n", "".join(data["text/html"]))
    return f"```text\n{''.join(output.get('text', data.get('text/plain', ''))).rstrip()}\n```"


def generate() -> None:
    """Write the pages that are made."""
    (DOCS / "commands.md").write_text(commands(), encoding="utf-8")
    for notebook in sorted(DOCS.glob("tutorials/*.ipynb")):
        notebook.with_suffix(".md").write_text(page_of(notebook), encoding="utf-8")


def check_nav() -> None:
    """An error where a page stands nowhere in the navigation."""
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    listed = set(re.findall(r"[\w/]+\.md", str(settings["nav"])))
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
    if lost := sorted(page for page in pages ^ listed if not page.startswith("decisions/0")):
        sys.exit(f"mkdocs.yml, nav: neither lost pages nor dead entries: {', '.join(lost)}")


def finish() -> None:
    """The built pages without raw roles; the reference with all that is public."""
    for file in sorted(SITE.rglob("*.html")):
        html = file.read_text(encoding="utf-8")
        anchors = re.findall(r'id="(leakbound[\w.]*)"', html)
        if file.parent.name == "reference":
            check_complete(anchors)
        html = ROLE.sub(lambda role: rendered(*role.groups(), anchors), html)  # noqa: B023 - used at once
        if left := RAW.findall(html):
            sys.exit(f"{file}: a role that docs/build.py does not know: {left[0]}")
        file.write_text(html, encoding="utf-8")


def check_complete(anchors) -> None:
    """An error where a public name has no docstring or no entry of its own."""
    package = griffe.load("leakbound", search_paths=[str(ROOT / "src")], resolve_aliases=True)
    at = {anchor.removeprefix("leakbound.") for anchor in anchors} - {"leakbound"}
    shown = {package[path].canonical_path for path in at}
    missing = []
    for where in PUBLIC:
        inside = where.removeprefix("leakbound").removeprefix(".")
        room = package[inside] if inside else package
        missing += [f"{where}.{name}" for name in map(str, room.exports) if room[name].canonical_path not in shown]
    if missing:
        sys.exit(f"public, but without a docstring or an entry in docs/reference.md: {', '.join(missing)}")


def rendered(kind, short, target, anchors) -> str:
    """A link to what the page shows, by its whole name or its only nearest one; else code."""
    text = f"<code>{target.rsplit('.', 1)[-1] if short else target}</code>"
    named = sorted((a for a in anchors if f".{a}".endswith(f".{target}")), key=lambda a: a.count("."))
    if kind == "meth" and "." not in target:
        return text  # of the class around it; many have one of that name
    nearest = [a for a in named if a.count(".") == named[0].count(".")]
    return f'<a href="#{nearest[0]}">{text}</a>' if len(nearest) == 1 else text


if __name__ == "__main__":
    generate()
    check_nav()
    build = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    if code := subprocess.run(build, cwd=ROOT).returncode:
        sys.exit(code)
    finish()
