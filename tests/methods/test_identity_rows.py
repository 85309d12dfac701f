"""Rows of identities that outlive the losses they come from."""

import torch

from passerby.methods.identity_rows import IdentityRows, RowStore


def test_known_rows_become_the_last_of_a_target_and_the_others_stay():
    rows = IdentityRows(torch.full((2, 3), 9.0), "after_neck", torch.tensor([True, False]))
    target = torch.nn.Linear(3, 4, bias=False).weight
    before = target.detach().clone()
    rows.copy_to(target)
    assert torch.equal(target[[0, 1, 3]], before[[0, 1, 3]])
    assert target[2].tolist() == [9, 9, 9]


def test_centres_and_classifiers_do_not_adopt_from_each_other():
    store = RowStore({"center": IdentityRows(torch.ones(2, 3), "centres_before_neck")})
    assert store.rows_for("softmax", "before_neck") is None
    assert store.rows_for("center", "centres_after_neck") is None
    assert store.rows_for("center", "centres_before_neck") is store["center"]


def test_a_store_becomes_what_another_one_saved():
    store = RowStore({"softmax": IdentityRows(torch.randn(4, 3), "before_neck", torch.arange(4) > 1)})
    again = RowStore({"center": IdentityRows(torch.ones(2, 3), "centres_before_neck")})
    again.load_state_dict(store.state_dict(), assign=True)
    assert list(again) == ["softmax"]
    assert torch.equal(again["softmax"].weight, store["softmax"].weight)
    assert again.count == 4
    assert again["softmax"].space == "before_neck"
    assert again["softmax"].is_known.tolist() == [False, False, True, True]
