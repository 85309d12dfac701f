"""One name, one meaning: no class, function or type is defined twice at the top of two modules."""

import ast
from collections import defaultdict
from pathlib import Path

import passerby

ROOT = Path(passerby.__file__).parent

SAME_MEANING = {
    "choose_queries",  # of one person, by the same rule
    "load_model",  # the front door and what it calls
    "main",  # of `python -m passerby` and of the console script
    "make_console",  # the command line asks for it before rich is loaded
    "NonNegative",
    "Positive",
    "Numbers",  # arrays that a graph takes or returns, by two runtimes
    "Vector",  # the feature that a method reads
    "measure",  # what is measured, seconds of steps or an autoencoder, follows from the module
}
"""Names that several modules define with one meaning."""

TO_BE_RENAMED: set[str] = set()
"""Names with several meanings that still wait for better ones; none may be added."""


def names_of(tree: ast.Module) -> set[str]:
    """Return the public classes, functions and types of a module; upper-case constants are local by convention."""
    found = {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return {name for name in found if not name.startswith("_") and not name.isupper()}


def test_every_name_has_one_meaning():
    places = defaultdict(list)
    for file in sorted(ROOT.rglob("*.py")):
        module = file.relative_to(ROOT).as_posix()
        if not module.startswith(("cli/", "api/")):  # commands and the front door are called like what they run
            for name in names_of(ast.parse(file.read_text(encoding="utf-8"))):
                places[name].append(module)
    twice = {name: modules for name, modules in places.items() if len(modules) > 1}
    assert {name: modules for name, modules in twice.items() if name not in SAME_MEANING | TO_BE_RENAMED} == {}
