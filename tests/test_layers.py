"""Each module imports only from layers below its own, by the one table that the pages show too."""

import ast
from pathlib import Path

import pytest

import passerby
from passerby.layers import LAYERS, layers_list, layers_table, may_import

ROOT = Path(passerby.__file__).parent
PROJECT = ROOT.parent
FILES = sorted(ROOT.rglob("*.py"))


def imports(path: Path) -> list[str]:
    """Every module of passerby that a file imports, inside functions too, but not what only type checkers see."""
    tree = ast.parse(path.read_text())
    seen_by_checkers = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test).endswith("TYPE_CHECKING")
        for node in ast.walk(block)
    }
    names = []
    for node in ast.walk(tree):
        if id(node) in seen_by_checkers:
            continue
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names += [
                f"{node.module}.{alias.name}" if node.module == "passerby" else str(node.module) for alias in node.names
            ]
    return [name for name in names if name.startswith("passerby.")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_from_lower_layers(path):
    name = ".".join(path.relative_to(PROJECT).with_suffix("").parts)
    if name == "passerby.__init__":
        assert imports(path) == []
        return
    for other in imports(path):
        if other != "passerby.__version__":
            assert may_import(name, other), (
                f"{name} imports {other}, which is not in a lower layer (passerby/layers.py)"
            )


def test_the_table_holds_each_module_and_package_once():
    listed = [name for layer in LAYERS for name in layer]
    existing = {path.stem for path in ROOT.glob("*.py")} | {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert sorted(listed) == sorted(existing - {"__init__"})


@pytest.mark.parametrize(
    ("page", "text"), [("CONTRIBUTING.md", layers_list()), ("docs/extend/index.md", layers_table())]
)
def test_the_pages_hold_the_table(page, text):
    assert f"<!-- layers -->\n\n{text}\n\n<!-- end of layers -->" in (PROJECT / page).read_text(), (
        f"{page} holds another table than passerby/layers.py; write it by: python docs/generate.py"
    )
