"""Write the pages and drawings that are made from the program itself, so that they cannot say other than it does.

Run by `make docs` before the site is built. Everything goes to `docs/generated/`, except the table of layers, which
goes between marks in the pages that show it.
"""

from __future__ import annotations

import inspect
import json
import re
import tempfile
import types
import typing
from pathlib import Path

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

import passerby
from passerby.choices import settings_in
from passerby.layers import layers_list, layers_table
from passerby.models.backbones import BACKBONES
from passerby.recipe import Recipe, load_recipe
from passerby.reference_results import REFERENCE_NOTE, shipped_recipes, shipped_rows
from passerby.report.diagrams import draw
from passerby.report.palette import svg_text
from passerby.report.schedule import rate_curve
from passerby.settings import Settings, annotation_of

FOLDER = Path(__file__).parent / "generated"
ROOT = FOLDER.parents[1]


def settings_page() -> str:
    """Return the page of every setting of a recipe, with its default, what is allowed, and what it says."""
    lines = [
        "# Every setting",
        "",
        "Written from the classes that check a recipe. Where `null` is the default, the part is off until it is named.",
        "",
    ]
    seen: set[type[Settings]] = set()
    queue: list[tuple[str, type[Settings]]] = [("recipe", Recipe)]
    families = {name: family.settings_class for name, family in BACKBONES.items()}
    queue += [(f"model.architecture ({name})", kind) for name, kind in families.items() if kind.model_fields]
    while queue:
        path, kind = queue.pop(0)
        if kind in seen:
            continue
        seen.add(kind)
        lines += [
            f"## {path} {{#{anchor(kind)}}}",
            "",
            first_paragraph(kind),
            "",
            "| key | default | allowed | meaning |",
            "|---|---|---|---|",
        ]
        for name, field in kind.model_fields.items():
            below = list(settings_in(annotation_of(field)))
            label = f"{name}" if path == "recipe" else f"{path}.{name}"
            queue += [(f"{label} ({choice.__name__})" if len(below) > 1 else label, choice) for choice in below]
            lines.append(f"| `{name}` | {default(field)} | {allowed(field, below)} | {cell(field.description or '')} |")
        lines.append("")
    return "\n".join(lines)


def reference_page() -> str:
    """Return the page of all reference rows."""
    lines = [
        "# Reference results",
        "",
        f"{REFERENCE_NOTE} mAP and rank-1 in percent, in brackets the change of the mAP by later stages in points; "
        "losses of an autoencoder (ae, ae_l1, ae_l2) as they are. A row is run by "
        "`passerby train NAME --data DATA --out DIR`.",
        "",
        "| name | based on | what differs | changes | reference (mAP / rank-1) |",
        "|---|---|---|---|---|",
    ]
    for name, row in shipped_rows().items():
        changes = ", ".join(f"`{change}`" for change in row.overrides)
        lines.append(f"| `{name}` | `{row.based_on}` | {cell(row.differs)} | {cell(changes)} | {row.summary} |")
    return "\n".join([*lines, ""])


def first_paragraph(kind: type[Settings]) -> str:
    """Return what a class of settings says of itself."""
    return " ".join((kind.__doc__ or "").strip().split("\n\n")[0].split())


def anchor(kind: type[Settings]) -> str:
    """Return the name of the place on the page where a class stands."""
    return kind.__name__.lower()


def default(field: FieldInfo) -> str:
    """Return the default as YAML shows it."""
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "*must be given*"
    if isinstance(value, Settings):
        return "as below"
    if isinstance(value, tuple) and any(isinstance(item, Settings) for item in value):
        return "one stage on `auto`"
    return f"`{json.dumps(value)}`"


def allowed(field: FieldInfo, below: list[type[Settings]]) -> str:
    """Return what a key takes, in words."""
    if below:
        return ", ".join(f"[{kind.__name__ if len(below) > 1 else 'settings'}](#{anchor(kind)})" for kind in below)
    limits = [
        f"{sign} {getattr(item, name):g}" for item in field.metadata for name, sign in LIMITS if hasattr(item, name)
    ]
    return cell(" ".join([words(field.annotation), ", ".join(limits)]).strip())


LIMITS = (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤"))


def words(annotation: object) -> str:
    """Return an annotation as a person would say it."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin is typing.Annotated:
        return words(inner[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join("null" if part is type(None) else words(part) for part in inner)
    if origin is tuple:
        return "list of " + words(inner[0])
    if origin is dict:
        return "mapping"
    return {"str": "word", "int": "whole number", "float": "number", "bool": "true or false"}.get(
        getattr(annotation, "__name__", ""), str(annotation)
    )


def cell(text: str) -> str:
    """Return text that fits into a cell of a table."""
    return text.replace("|", "\\|")


METHOD = "method={affinity: {}, average: {alpha: 0.5}}"
"""As the tutorial gives it on the command line."""


def recipe_on_page(name: str, *changes: str) -> Recipe:
    """Return the first recipe that stands on a page, with changes as on the command line."""
    block = (FOLDER.parent / name).read_text().split("```yaml\n")[1].split("```")[0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.yaml"
        path.write_text(block)
        return load_recipe(str(path), changes)


def names_page() -> str:
    """Return the page of the names of `import passerby`, each with the first line of its docstring."""
    rows = [f"| `{name}` | {cell(first_line(getattr(passerby, name)))} |" for name in passerby.__all__]
    return "\n".join(
        [
            "# import passerby",
            "",
            "What most programs need, by one import. Each name is loaded when it is first used.",
            "",
            "[Examples](../guide/python.md) · [arguments and results](../reference/passerby.md)",
            "",
            "| name | meaning |",
            "|---|---|",
            *rows,
            "",
        ]
    )


def first_line(value: object) -> str:
    """Return the first line of a docstring."""
    return (inspect.getdoc(value) or "").partition("\n")[0]


def write_layers() -> None:
    """Write the table of layers into the pages that show it."""
    for name, text in (("CONTRIBUTING.md", layers_list()), ("docs/extend/index.md", layers_table())):
        page = ROOT / name
        marked = f"<!-- layers -->\n\n{text}\n\n<!-- end of layers -->"
        page.write_text(re.sub("<!-- layers -->.*?<!-- end of layers -->", marked, page.read_text(), flags=re.DOTALL))


def main() -> None:
    """Write everything."""
    write_layers()
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "names.md").write_text(names_page())
    (FOLDER / "settings.md").write_text(settings_page())
    (FOLDER / "reference_results.md").write_text(reference_page())
    for name in shipped_recipes():
        (FOLDER / f"{name}.svg").write_text(draw(load_recipe(name)))
    (FOLDER / "sites.svg").write_text(draw(recipe_on_page("tutorial_sites.md", METHOD)))
    (FOLDER / "schedule_sbs.svg").write_text(svg_text(rate_curve(load_recipe("sbs"))))


if __name__ == "__main__":
    main()
