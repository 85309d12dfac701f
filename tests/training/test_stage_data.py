"""What a stage sets for itself of batches, augmentation and masks; the rest comes from the top level."""

import pytest

from passerby.errors import UserError
from passerby.recipe import recipe_from_text
from passerby.recipe.changes import changes
from passerby.training.session import train
from passerby.training.trainer import make_trainer
from tests.training.runs import run, run_interrupted, weights

PLAIN = "data: {sampler: {instances: 1, identities: 6}, augment: {flip: 0, pad: 0, jitter: null, erase: null}}"
LOSS = "losses: {triplet: null}"
TWO = f"stages=[{{train: [market1501], epochs: 1, {PLAIN}, {LOSS}}}, {{train: [market1501], name: b, epochs: 1}}]"


def test_a_stage_completes_its_data_from_the_top_level(tiny):
    first, second = tiny(TWO, "data.sampler.identities=5").stages
    assert (first.data.sampler.identities, first.data.sampler.instances, first.data.augment.flip) == (6, 1, 0)
    assert (second.data.sampler.identities, second.data.sampler.instances, second.data.augment.flip) == (5, 2, 0.5)


def test_a_recipe_with_own_data_reads_back(tiny):
    recipe = tiny(TWO, "foreground=swap", "stages.0.foreground=none")
    assert [stage.foreground.use for stage in recipe.stages] == ["none", "swap"]
    assert recipe_from_text(recipe.dump(), source="again") == recipe
    assert recipe_from_text(recipe.dump_changes(), source="again") == recipe


def test_an_override_that_reaches_no_stage_is_refused(tiny):
    with pytest.raises(UserError, match="every stage has a value of its own"):
        tiny("stages.0.data.sampler.identities=3", "data.sampler.identities=5")


def test_workers_may_differ_in_stages_too(tiny):
    assert not changes(tiny(TWO), tiny(TWO, "data.workers=1"), ignore=["data.workers"])


def test_each_stage_draws_its_own_batches_and_resumes_bit_for_bit(tiny, tmp_path):
    sizes = []

    def measure(trainer, engine):
        from ignite.engine import Events

        engine.add_event_handler(
            Events.ITERATION_COMPLETED,
            lambda: sizes.append((trainer.state.counters.stage, len(engine.state.batch))),
        )

    recipe = tiny(TWO)
    train(recipe, tmp_path / "whole", watch=[measure])
    assert set(sizes) == {(0, 6), (1, 8)}
    assert weights(tmp_path / "whole") == weights(run_interrupted(recipe, tmp_path / "broken", steps=[4, 3]))


def test_only_some_stages_need_masks(tiny, tmp_path):
    with pytest.raises(UserError, match="a mask is missing for 48 of 48 training images of 'b'"):
        make_trainer(tiny(TWO, "stages.1.foreground=swap"), tmp_path / "run")


def test_stages_with_other_foregrounds_train(tiny, masks, tmp_path):
    recipe = tiny(TWO, f"masks={masks}", "stages.0.foreground=mask")
    assert [stage.input_mask for stage in recipe.stages] == ["foreground", "none"]
    assert recipe.input_mask == "none"
    run(recipe, tmp_path / "run")
