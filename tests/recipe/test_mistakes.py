"""Mistakes in recipes: each is one sentence that names the key and the way on."""

import re

import pytest

from passerby.errors import UserError
from passerby.recipe import load_recipe, make_recipe


def told(data):
    with pytest.raises(UserError) as caught:
        make_recipe(data, source="here")
    return str(caught.value)


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
