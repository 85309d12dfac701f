"""The typed tree of a run."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerby.data.readers.folder import Folder
from passerby.data.samplers.pk import PkSettings
from passerby.data.samplers.pk_cameras import PkCamerasSettings
from passerby.data.samplers.shuffle import ShuffleSettings
from passerby.data.samplers.table import SAMPLERS
from passerby.data.transforms import EraseSettings
from passerby.errors import UserError
from passerby.losses.triplet import TripletSettings
from passerby.optim import learning_rate_at, never_falls
from passerby.recipe import (
    Recipe,
    RerankSettings,
    find_recipe,
    load_recipe,
    make_recipe,
    recipe_from_text,
    recipe_of_run,
)
from passerby.recipe.changes import changes
from passerby.reference_results import shipped_recipes
from passerby.settings import override, parse_yaml
from passerby.types import CameraRerank


def told(data):
    with pytest.raises(UserError) as caught:
        make_recipe(data, source="here")
    return str(caught.value)


def test_nothing_given_is_a_recipe():
    recipe = make_recipe({}, source="here")
    assert recipe.stages[0].train == ("auto",)
    assert list(recipe.stages[0].losses.chosen) == ["softmax", "triplet"]
    assert recipe.data.augment.erase == EraseSettings()
    assert recipe.test.rerank == RerankSettings()


def test_a_stage_takes_from_the_recipe_what_it_does_not_say():
    recipe = make_recipe(
        {
            "losses": {"softmax": {"smoothing": 0.2}, "triplet": {"margin": 0.5}},
            "optim": {"lr": 0.1, "milestones": [3]},
            "stages": [
                {"train": ["market1501"]},
                {"train": ["msmt17"], "optim": {"lr": 0.2}, "losses": {"softmax": None, "triplet": {"weight": 2}}},
            ],
        },
        source="here",
    )
    first, second = recipe.stages
    assert (first.optim.lr, second.optim.lr) == (0.1, 0.2)
    assert first.optim.milestones == second.optim.milestones == (3,)
    assert second.losses.chosen == {"triplet": TripletSettings(margin=0.5, weight=2)}
    assert first.losses == recipe.losses


@pytest.mark.parametrize(
    ("override", "look"),
    [
        ("losses.triplet=null", lambda r: list(r.stages[0].losses.chosen) == ["softmax"]),
        ("losses.triplet.margin=0.5", lambda r: r.stages[0].losses.triplet.margin == 0.5),
        ("stages.0.losses.softmax=null", lambda r: list(r.stages[0].losses.chosen) == ["triplet"]),
        ("stages.0.epochs=3", lambda r: r.stages[0].epochs == 3),
        ("data.augment.erase=null", lambda r: r.data.augment.erase is None),
        ("data.augment.jitter={}", lambda r: r.data.augment.jitter is not None),
        ("test.rerank=null", lambda r: r.test.rerank is None),
        ("test.rerank.k1=5", lambda r: r.test.rerank == RerankSettings(k1=5)),
        (
            "test.rerank={distance: ca_jaccard, k1_inter: 9}",
            lambda r: r.test.rerank.parameters == CameraRerank(k1_inter=9),
        ),
        ("optim.milestones=null", lambda r: r.optim.milestones == (40, 70)),
        ("evaluate=[msmt17]", lambda r: r.tested == ("msmt17",)),
        ("evaluate=[]", lambda r: r.tested == ()),
        ("evaluate=null", lambda r: r.tested == ("auto",)),
        ("datasets.mine={kind: folder, root: somewhere}", lambda r: r.dataset("mine").root == "somewhere"),
        ("pattern='{pid}_*'", lambda r: r.dataset("auto") == Folder(root="data", pattern="{pid}_*")),
        ("root=elsewhere", lambda r: r.dataset("msmt17").root == "elsewhere"),
    ],
)
@pytest.mark.parametrize("name", ["bag_of_tricks", "small"])
def test_overrides_reach_everything(name, override, look):
    recipe = load_recipe(name, [override])
    assert look(recipe)
    assert make_recipe(parse_yaml(recipe.dump(), source="dump"), source="dump") == recipe


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (
            {"stages": [{"train": ["markt1501"]}]},
            "data set 'markt1501' is neither in `datasets` nor a kind; did you mean",
        ),
        (
            {"evaluate": ["mine"]},
            "data set 'mine' is neither in `datasets` nor a kind; known: aicity, auto, ccvid, csv",
        ),
        ({"stages": []}, "stages"),
        ({"stages": [{"train": []}]}, "stages.0.train"),
        (
            {"pattern": "{pid}_*", "datasets": {"a": {"kind": "folder", "root": "x"}}, "stages": [{"train": ["a"]}]},
            "pattern has no effect: all data sets are described in `datasets`; give each its pattern there",
        ),
        ({"stages": [{"train": ["auto", "auto"]}]}, "train names a data set twice: auto, auto"),
        ({"losses": {"triplett": {}}}, "unknown key losses.triplett; did you mean 'triplet'?"),
        ({"datasets": {"a": {"kind": "foldr", "root": "x"}}}, "did you mean 'folder'?"),
        ({"datasets": {"a": {"kind": "csv"}}}, "path is missing"),
        ({"stages": [{"train": ["auto"], "identities": 1}]}, "stages.0.identities is 1"),
        (
            {"stages": [{"train": ["auto"], "identities": 5, "labelled": False}]},
            "identities has no effect with labelled: false",
        ),
        ({"engine": {"precision": "bf61"}}, "engine.precision is 'bf61', allowed: "),
        ({"input": {"size": [4, 128]}}, "input.size.0 is 4"),
        ({"optim": {"schedule": "cosine", "gamma": 0.5}}, "gamma has no effect with schedule: cosine"),
        (
            {"data": {"sampler": "per_domain"}, "stages": [{"train": ["auto"]}, {"train": ["msmt17"]}]},
            "data.sampler: per_domain has no effect: no stage trains on several data sets jointly",
        ),
        (
            {"data": {"sampler": {"kind": "per_domain", "identities": 5}}, "stages": [{"train": ["auto", "msmt17"]}]},
            "5 identities of a batch (data.sampler.identities) evenly among 2 data sets (auto, msmt17), which cannot",
        ),
        ({"data": {"sampler": "pk_camera"}}, "data.sampler.kind is 'pk_camera', allowed: "),
        ({"data": {"sampler": "datasets"}}, "; it is called 'per_domain' now"),
        (
            {"data": {"sampler": {"kind": "shuffle", "identities": 8}}},
            "identities has no effect with kind: shuffle, which draws images and no groups of them; set data.sampler=",
        ),
        (
            {"engine": {"ghost_batch_size": 8}, "optim": {"batch_norm": "freeze_stats"}},
            "engine.ghost_batch_size has no effect: optim.batch_norm keeps the statistics of every stage",
        ),
        (
            {"foreground": "swap", "data": {"augment": {"policy": {}}}},
            "data.augment.policy turns and shears images and would leave the masks of foreground.use: swap behind",
        ),
        ({"stages": 5}, "stages is 5"),
        ({"stages": [5]}, "stages.0 is 5"),
        ({"losses": 5}, "losses is 5"),
        ({"data": {"augment": {"erase": {"probability": 2}}}}, "data.augment.erase.probability is 2"),
    ],
)
def test_mistakes_are_told(data, sentence):
    found = told(data)
    assert found.startswith("here: ")
    assert sentence in found
    assert "\n" not in found


@pytest.mark.parametrize(
    ("method", "sentence"),
    [
        ({"average": {"alpha": 2}}, "method.average.alpha is 2: must be less than 1 or 'adaptive'"),
        (
            {"contrast": {"cluster": {"kind": "dbscan", "eps": "wide"}}},
            "method.contrast.cluster.eps is \"wide\": must be a number or 'share' or 'auto'",
        ),
        (
            {"contrast": {"cluster": {"k1": 8}}},
            "method.contrast.cluster must say its kind: dbscan, hdbscan, kmeans, infomap, linkage",
        ),
        (
            {"contrast": {"cluster": {"kind": "dbscan", "epz": 1}}},
            "unknown key method.contrast.cluster.epz; did you mean 'eps'?",
        ),
    ],
)
def test_a_mistake_in_a_value_of_several_kinds_is_one_sentence(method, sentence):
    assert told({"method": method}) == f"here: {sentence}"


def test_a_mistake_in_a_shared_part_is_told_once():
    found = told({"optim": {"lrr": 1.0}, "stages": [{"train": ["auto"]}, {"train": ["msmt17"]}]})
    assert found == "here: unknown key optim.lrr; did you mean 'lr'?"
    found = told({"stages": [{"train": ["auto"]}, {"train": ["msmt17"], "optim": {"lrr": 1.0}}]})
    assert found == "here: unknown key stages.1.optim.lrr; did you mean 'lr'?"
    found = told({"optim": {"schedule": "constant", "gamma": 0.5}, "stages": [{"train": ["auto"]}]})
    assert found == "here: optim: gamma has no effect with schedule: constant"


@given(st.sampled_from(["optim.lr=1", "engine.seed=5", "stages.0.epochs=2", "data.sampler.identities=8"]), st.data())
def test_overrides_of_different_keys_may_come_in_any_order(one, data):
    other = data.draw(st.sampled_from(["model.pool=avg", "test.every=3", "input.size=[64, 32]"]))
    assert load_recipe("small", [one, other]) == load_recipe("small", [other, one])


def test_a_description_says_what_was_changed():
    plain = load_recipe("small").description
    assert load_recipe("small", ["root=elsewhere", "engine.device=cpu"]).description == plain
    found = load_recipe("small", ["stages.0.epochs=2", "input.size=[64, 32]", "evaluate=[]"])
    assert found.description == f"{plain}; changed: input.size=[64, 32], stages.0.epochs=2"
    assert load_recipe("small", ["input.size=[64, 32]", "description=mine"]).description == "mine"
    assert load_recipe("small", ["stages.0.epochs=2", "description=null"]).description == ""


def test_names_of_recipes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert {"bag_of_tricks", "small"} <= set(shipped_recipes())
    assert find_recipe("small.yaml") == find_recipe("small")
    (tmp_path / "mine.yaml").write_text("extends: small\nengine: {seed: 7}")
    assert load_recipe("mine.yaml").engine.seed == 7
    assert load_recipe(str(tmp_path / "mine.yaml")).model.backbone == "resnet18"
    with pytest.raises(UserError, match=r"no recipe 'smal': neither a file nor a shipped name; did you mean 'small'\?"):
        load_recipe("smal")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("{k1_inter: 9}", "k1_inter has no effect with distance: jaccard; it belongs to ca_jaccard"),
        ("{distance: ca_jaccard, k2: 3}", "k2 has no effect with distance: ca_jaccard; it belongs to jaccard"),
    ],
)
def test_neighbours_of_the_other_distance_of_reranking_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        load_recipe("small", [f"test.rerank={change}"])


def test_null_in_an_extending_file_takes_away_what_is_on_by_default(tmp_path):
    (tmp_path / "a.yaml").write_text("extends: small\ntest: {rerank: null}\ndata: {augment: {erase: null}}")
    recipe = load_recipe(str(tmp_path / "a.yaml"))
    assert recipe.test.rerank is None
    assert recipe.data.augment.erase is None


def test_a_stage_may_cluster_in_another_way_than_the_recipe():
    stages = [{"train": ["market1501"], "labelled": False}, {"train": ["msmt17"], "labelled": False}]
    stages[1]["method"] = {"contrast": {"cluster": {"kind": "kmeans", "k": 50}}}
    method = {"contrast": {"cluster": {"kind": "dbscan", "eps": 0.4, "k1": 12}, "momentum": 0.2}}
    first, second = make_recipe({"stages": stages, "method": method}, source="here").stages
    assert (first.method.contrast.cluster.kind, first.method.contrast.cluster.k1) == ("dbscan", 12)
    assert (second.method.contrast.cluster.kind, second.method.contrast.cluster.k) == ("kmeans", 50)
    assert second.method.contrast.momentum == 0.2


def test_a_recipe_is_frozen():
    with pytest.raises(Exception, match="frozen"):
        Recipe().root = "x"


def test_override_by_hand_equals_override_by_word():
    data = override({}, "stages=[{train: [msmt17], epochs: 2}]")
    assert make_recipe(data, source="x") == make_recipe({"stages": [{"train": ["msmt17"], "epochs": 2}]}, source="y")


def test_a_data_set_described_without_a_root_lies_where_the_others_lie():
    recipe = make_recipe(
        {"root": "here", "masks": "m", "datasets": {"a": {"kind": "cuhk03"}, "b": {"kind": "cuhk03", "root": "there"}}},
        source="test",
    )
    assert (recipe.datasets["a"].root, recipe.datasets["a"].masks) == ("here", "m")
    assert (recipe.datasets["b"].root, recipe.datasets["b"].masks) == ("there", None)


@pytest.mark.parametrize("name", ["small", "bag_of_tricks", "lwf/ibn_b_resnet50-05"])
@pytest.mark.parametrize("epochs", [3, 7, 240])
def test_epochs_stretch_the_schedule(name, epochs):
    plain, stretched = load_recipe(name), load_recipe(name, epochs=epochs)
    for before, after in zip(plain.stages, stretched.stages, strict=True):
        assert after.epochs == epochs
        assert never_falls(after.optim, epochs) == never_falls(before.optim, before.epochs)
        if epochs > 3:  # milestones are whole epochs
            late = [
                learning_rate_at(s.optim, int(s.epochs * 990), steps_per_epoch=1000, epochs=s.epochs)
                for s in (before, after)
            ]
            assert late[0] == pytest.approx(late[1], rel=0.35) or max(late) < 0.1 * after.optim.lr
    assert "changed: epochs=" in stretched.description
    assert make_recipe(parse_yaml(stretched.dump(), source="dump"), source="dump") == stretched


def test_epochs_by_override_leave_a_schedule_that_never_falls():
    (stage,) = load_recipe("small", ["stages.0.epochs=5"]).stages
    assert never_falls(stage.optim, stage.epochs)


def test_no_stage_has_no_epochs():
    with pytest.raises(UserError, match="epochs is 0"):
        load_recipe("small", epochs=0)


@pytest.mark.parametrize("name", [*shipped_recipes(), "ebll/ibn_a_resnet50-09", "usl/market1501-mmt"])
def test_the_changes_of_a_recipe_read_back_to_it(name):
    recipe = load_recipe(name)
    text = recipe.dump_changes()
    assert len(text) < len(recipe.dump())
    assert make_recipe(parse_yaml(text, source="changes"), source="changes") == recipe


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("optim.learning_rate=1", "unknown key optim.learning_rate; did you mean 'lr'?"),
        ("seed=1", "did you mean engine.seed?"),
        ("epochs=3", "did you mean stages.0.epochs?"),
        ("batch_size=3", "data.sampler.identities"),
        ("losses.tripplet.weight=2", "did you mean 'triplet'?"),
    ],
)
def test_an_unknown_key_is_told_where_it_belongs(override, hint):
    with pytest.raises(UserError, match=re.escape(hint)):
        load_recipe("small", [override])


def test_changes_are_those_of_the_top_level_without_what_stages_inherit():
    before, after = load_recipe("small"), load_recipe("small", ["optim.lr=0.5", "engine.seed=4"])
    assert [str(one) for one in changes(before, after, ignore=["description"])] == ["optim.lr=0.5", "engine.seed=4"]
    assert changes(before, after, ignore=["description"])[0].before == "0.001"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["data.sampler.instances=1"], "losses.triplet compares images of an identity, and data.sampler.instances: 1"),
        (["data.sampler.instances=1", "losses.softmax=null", "losses.triplet.form=soft"], "would always be 0"),
        (
            ["data.sampler.instances=1", "losses={triplet: null, circle: {}}"],
            "losses.circle compares images of an identity",
        ),
        (["losses={softmax: null, triplet: null, center: {}}"], "none of center separates identities"),
        (["losses.softmax.weight=0", "losses.triplet.weight=0"], "none of softmax, triplet separates identities"),
    ],
)
def test_losses_that_can_teach_nothing_are_refused(changes, told):
    with pytest.raises(UserError, match=re.escape(told)):
        load_recipe("small", changes)


@pytest.mark.parametrize(
    "changes",
    [
        ["data.sampler.instances=1", "losses.triplet=null"],
        ["data.sampler.instances=1", "losses={softmax: null, triplet: {anchors: all}}"],
        ["losses={triplet: null, center: {}}"],
    ],
)
def test_losses_that_can_teach_something_are_accepted(changes):
    load_recipe("small", changes)


def test_a_former_name_of_a_vector_is_refused_with_the_present_one():
    for change, hint in (("test.feature=embedding", "after_neck"), ("losses.triplet.feature=feature", "before_neck")):
        with pytest.raises(UserError, match=f"it is called '{hint}' now"):
            load_recipe("small", [change])


def test_a_stored_recipe_with_former_names_of_vectors_is_read(tmp_path):
    recipe = load_recipe("small", ["test.feature=before_neck", "losses.center={}"])
    former = recipe.dump().replace("before_neck", "feature").replace("after_neck", "embedding")
    (tmp_path / "recipe.yaml").write_text(former)
    for read in (recipe_from_text(former, source="a model"), recipe_of_run(tmp_path / "recipe.yaml")):
        assert (read.test, read.losses, read.stages) == (recipe.test, recipe.losses, recipe.stages)
    with pytest.raises(UserError, match="it is called 'after_neck' now"):
        recipe_from_text(former, ["test.feature=embedding"], source="a model")


# ---- samplers


def sampler(*overrides, name="lifelong"):
    return load_recipe(name, overrides).stages[0].data.sampler


def test_a_word_changes_the_sampler_and_keeps_the_size_of_the_batch():
    assert sampler() == PkCamerasSettings(identities=32, instances=4)
    assert sampler("data.sampler=pk") == PkSettings(identities=32, instances=4)
    assert sampler("data.sampler=pk", "data.sampler.identities=8") == PkSettings(identities=8, instances=4)
    assert sampler("data.sampler.identities=8", "data.sampler=pk") == PkSettings(identities=8, instances=4)
    assert sampler("data.sampler={kind: pk, instances: 2}") == PkSettings(identities=16, instances=2)
    assert sampler("data.sampler=shuffle", "losses.triplet=null", name="small") == ShuffleSettings(size=64)


def test_a_word_in_a_stage_keeps_what_the_recipe_says():
    stages = "stages=[{train: [market1501], data: {sampler: pk}}, {train: [market1501], name: b}]"
    first, second = load_recipe("lifelong", [stages, "stages.0.data.sampler.instances=8"]).stages
    assert first.data.sampler == PkSettings(identities=32, instances=8)
    assert second.data.sampler == PkCamerasSettings(identities=32, instances=4)


def test_a_file_that_extends_another_changes_its_sampler(tmp_path):
    (tmp_path / "a.yaml").write_text("data: {sampler: pk_cameras}\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\ndata: {sampler: {identities: 8}}\n")
    (tmp_path / "c.yaml").write_text("extends: b.yaml\ndata: {sampler: pk}\n")
    assert sampler(name=str(tmp_path / "b.yaml")) == PkCamerasSettings(identities=8, instances=4)
    assert sampler(name=str(tmp_path / "c.yaml")) == PkSettings(identities=8, instances=4)


def test_the_schema_takes_a_kind_alone():
    field = Recipe.model_json_schema()["$defs"]["DataSettings"]["properties"]["sampler"]
    assert {"type": "string"} in field["anyOf"]


@pytest.mark.parametrize("kind", SAMPLERS)
def test_every_sampler_reads_back(kind):
    pairs = {"losses.triplet=null"} if kind == "shuffle" else set()
    recipe = load_recipe("small", [f"data.sampler={kind}", "stages.0.train=[market1501, msmt17]", *pairs])
    assert recipe.data.sampler == SAMPLERS[kind]()
    for text in (recipe.dump(), recipe.dump_changes()):
        assert make_recipe(parse_yaml(text, source="again"), source="again") == recipe
