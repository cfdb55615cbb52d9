"""What the build adds: roles in docstrings become links or code, and a public name without its entry is an error."""

import re

import griffe
from mkdocs.exceptions import PluginError

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


def on_page_content(html, page, config, files):
    """The page without raw roles; the reference with all that is public."""
    anchors = re.findall(r'id="(leakbound[\w.]*)"', html)
    if page.file.src_uri == "reference.md":
        check_complete(anchors)
    html = ROLE.sub(lambda role: rendered(*role.groups(), anchors), html)
    if left := RAW.findall(html):
        raise PluginError(f"{page.file.src_uri}: a role that docs/hooks.py does not know: {left[0]}")
    return html


def check_complete(anchors):
    """An error where a public name has no docstring or no entry of its own."""
    package = griffe.load("leakbound", search_paths=["src"], resolve_aliases=True)
    at = {anchor.removeprefix("leakbound.") for anchor in anchors} - {"leakbound"}
    shown = {package[path].canonical_path for path in at}
    missing = []
    for where in PUBLIC:
        inside = where.removeprefix("leakbound").removeprefix(".")
        room = package[inside] if inside else package
        missing += [f"{where}.{name}" for name in map(str, room.exports) if room[name].canonical_path not in shown]
    if missing:
        raise PluginError(f"public, but without a docstring or an entry in docs/reference.md: {', '.join(missing)}")


def rendered(kind, short, target, anchors):
    """A link to what the page shows, by its whole name or its only nearest one; else code."""
    text = f"<code>{target.rsplit('.', 1)[-1] if short else target}</code>"
    named = sorted((a for a in anchors if f".{a}".endswith(f".{target}")), key=lambda a: a.count("."))
    if kind == "meth" and "." not in target:
        return text  # of the class around it; many have one of that name
    nearest = [a for a in named if a.count(".") == named[0].count(".")]
    return f'<a href="#{nearest[0]}">{text}</a>' if len(nearest) == 1 else text
