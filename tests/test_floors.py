"""A file imports from the floors below its own, so the core can be read and used without what stands on it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import passerby

ROOT = Path(passerby.__file__).parent
FLOORS = {
    0: [
        "errors",
        "files",
        "types",
        "settings",
        "inputs",
        "inference",
        "console",
        "lock",
        "threads",
        "bounded",
        "compiled",
        "npz",
        "metadata",
    ],
    1: ["distances"],
    2: ["data", "models", "losses", "metrics", "cluster", "optim", "onnx_providers"],
    3: ["extract", "evaluate", "image_arrays", "onnx_model", "segment"],
    4: ["methods", "reliance", "scorable", "targets"],
    5: ["recipe"],
    6: ["train", "trained"],
    7: ["report", "bench", "export", "search", "serve", "interpolate", "adapt"],
    8: ["commands", "search_commands"],
    9: ["demo"],
    10: ["cli"],
    11: ["__main__"],
}
FLOOR_OF = {name: floor for floor, names in FLOORS.items() for name in names}
FILES = sorted(ROOT.rglob("*.py"))


def package_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> list[str]:
    """Every module of passerby that a file imports, inside functions too, but not what only type checkers see."""
    tree = ast.parse(path.read_text())
    seen_by_checkers = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test).endswith("TYPE_CHECKING")
        for node in ast.walk(block)
    }
    found = []
    for node in ast.walk(tree):
        if id(node) in seen_by_checkers:
            continue
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found += [
                f"{node.module}.{alias.name}" if node.module == "passerby" else str(node.module) for alias in node.names
            ]
    return [name for name in found if name.startswith("passerby.")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_from_below(path):
    mine = package_of(path)
    if mine == "__init__":
        assert imports(path) == []
        return
    assert mine in FLOOR_OF, f"{mine} stands on no floor; give it one in {Path(__file__).name} and in the design"
    for name in imports(path):
        other = name.split(".")[1]
        if other in (mine, "__version__"):
            continue
        below = FLOOR_OF[other] < FLOOR_OF[mine] or FLOOR_OF[mine] == 0 == FLOOR_OF[other]
        assert below, f"{path.relative_to(ROOT)} (floor {FLOOR_OF[mine]}) imports {name} (floor {FLOOR_OF[other]})"


def loaded_by(module: str) -> set[str]:
    code = f"import sys, {module}; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


HEAVY = {"torch", "torchvision", "timm", "matplotlib", "ignite", "sklearn", "scipy", "numba", "pydantic"}


def test_the_command_line_imports_nothing_heavy():
    assert loaded_by("passerby.cli") & HEAVY == set()


@pytest.mark.parametrize(
    "module", ["passerby.types", "passerby.settings", "passerby.data.datasets", "passerby.data.check"]
)
def test_reading_data_needs_no_network_library(module):
    assert loaded_by(module) & {"torch", "timm", "matplotlib", "ignite"} == set()
