"""The script that proves refactors covers what there is, gives the same hashes again, and finds what differs."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from passerby.losses.mix import LossSettings
from passerby.recipe import MethodSettings, load_recipe
from passerby.reference_results import shipped_recipes, shipped_rows

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "weight_hashes.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("weight_hashes", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_it_trains_every_recipe_method_and_loss(script):
    assert set(script.RECIPES) == set(shipped_recipes())
    assert set(script.ROWS) <= set(shipped_rows())
    kinds = {name.partition("/")[0] for name in shipped_rows()} - {*script.RECIPES, "clothes"}  # clothes are not drawn
    assert kinds <= {name.partition("/")[0] for name in script.ROWS}
    in_recipes = {"prompts"}
    assert set(MethodSettings.model_fields) <= {*script.LABELLED, *script.ASSIGNING, *in_recipes, "cal"}
    assert set(LossSettings.model_fields) <= {"softmax", "triplet", *script.LOSSES}


def test_every_run_is_a_recipe_that_reads(script, tmp_path):
    datasets = dict.fromkeys(script.DATASETS, f"{{kind: market1501, root: {tmp_path}}}")
    (tmp_path / "tiny.yaml").write_text(script.TINY.format_map(datasets))
    for run in (*script.RECIPES.values(), *script.ROWS.values(), *script.TRIED.values()):
        recipe = str(tmp_path / "tiny.yaml") if run.recipe == "tiny" else run.recipe
        assert len(load_recipe(recipe, script.overrides(run, datasets)).stages) == run.stages


def test_a_hash_comes_again_and_differs_with_the_recipe(script, tmp_path):
    datasets = script.draw_datasets(tmp_path / "data")
    runs = [script.TRIED["tiny, as it is"]] * 2 + [script.TRIED["tiny, no neck"]]
    first, again, other = [script.hash_run(run, datasets, tmp_path / str(n)) for n, run in enumerate(runs)]
    assert first == again != other


def test_names_of_tensors_do_not_change_a_hash_and_numbers_do(script, tmp_path):
    tensors = {"a": torch.arange(4.0), "b": torch.ones(4), "c": torch.zeros(2, 2)}
    named = {"z": tensors["a"], "b": tensors["b"], "a": tensors["c"]}
    for name, found in {"old": tensors, "new": named, "moved": {**tensors, "b": torch.ones(4) * 1.0001}}.items():
        save_file(found, tmp_path / name)
    old, new, moved = (script.hash_weights(tmp_path / name) for name in ("old", "new", "moved"))
    assert old == new != moved


def test_comparing_lists_what_differs(script, tmp_path, capsys):
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_text(json.dumps({"same": "1", "moved": "2", "gone": "3"}))
    new.write_text(json.dumps({"same": "1", "moved": "4"}))
    assert script.compare(old, old) == 0
    assert script.compare(old, new) == 1
    assert capsys.readouterr().out.splitlines()[1:] == [f"gone: not in {new}", "moved: differs", "1 of 3 equal"]
