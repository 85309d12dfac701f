"""What each of several processes does in `test_distributed.py`: train recipes and write down what it ended with."""

import json
import os
import sys
from pathlib import Path

import torch

from passerby.errors import UserError
from passerby.recipe import load_recipe
from passerby.train import distributed
from passerby.train.session import train
from tests.train.runs import state_hash


def main(recipe: str, out: Path, variants: dict[str, list[str]]) -> None:
    """Train every variant and write one file per process."""
    torch.set_num_threads(1)
    distributed.start()
    found = {}
    for name, overrides in variants.items():
        runs = []
        train(load_recipe(recipe, overrides), out / name, watch=[lambda run, _, runs=runs: runs.append(run)])
        followers = {f"mean.{key}": value for each in runs[-1].followers for key, value in each.state_dict().items()}
        found[name] = state_hash({**runs[-1].embedder.state_dict(), **runs[-1].losses.state_dict(), **followers})
    try:
        train(load_recipe(recipe, overrides), out / name)
    except UserError as error:
        found["refused"] = str(error)
    (out / f"rank{os.environ['RANK']}.json").write_text(json.dumps(found))
    distributed.wait()
    distributed.stop()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3]))
