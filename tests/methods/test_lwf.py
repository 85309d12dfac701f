"""What learning without forgetting keeps, and whom it asks."""

import torch
from torch import nn

from passerby.methods.distillation import softened_cross_entropy, worst_triplet
from passerby.methods.heads import HeadList
from passerby.methods.lwf import LwfSettings
from tests.methods.steps import shake, some


def test_more_classifiers_than_ten_come_back_in_their_order():
    method, again = (LwfSettings(heads=1.0).make() for _ in range(2))
    method.heads = HeadList(nn.Linear(4, people, bias=False) for people in range(2, 14))
    assert (method.has_state, again.has_state) == (True, False)
    again.load_state_dict(method.state_dict())
    assert [len(head.weight) for head in again.heads] == list(range(2, 14))


def test_each_loss_asks_the_teacher_at_its_own_temperature(later):
    run = later("method.lwf={ce_dist: 2.0, tr_dist: 3.0, heads: 4.0, temperature: 0.7, heads_temperature: 1.5}")
    method, batch = run.state.methods["lwf"], some(run, rows=(0, 1, 8, 9))
    shake(method.old_heads, by=20, seed=1)  # a classifier that has learnt nothing says nothing
    method.heads[0].load_state_dict(method.old_heads[0].state_dict())
    shake(method.heads, seed=2)
    with torch.no_grad():
        old = run.state.previous_model.embedder(batch.inputs)
    new = run.state.embedder(batch.inputs)
    terms = method.losses(run.context, batch, new)
    said, says = method.old_heads[0](old.after_neck), method.heads[0](new.after_neck)
    wanted = {
        "ce_dist": (softened_cross_entropy(old.after_neck, new.after_neck, temperature=0.7), 2.0),
        "tr_dist": (worst_triplet(old.after_neck, new.after_neck, batch.labels), 3.0),
        "head 1": (softened_cross_entropy(said, says, temperature=1.5), 4.0),
    }
    assert terms.keys() == wanted.keys()
    for name, (value, weight) in wanted.items():
        torch.testing.assert_close(terms[name].value, value)
        assert terms[name].weight == weight
    others = [
        softened_cross_entropy(new.after_neck, old.after_neck, temperature=0.7),
        worst_triplet(new.after_neck, new.after_neck, batch.labels),
        softened_cross_entropy(says, says, temperature=1.5),
        softened_cross_entropy(method.old_heads[0](new.after_neck), says, temperature=1.5),
    ]
    right = [wanted[name][0] for name in ("ce_dist", "tr_dist", "head 1", "head 1")]
    assert all(abs(one - other) > 0.01 for one, other in zip(right, others, strict=True)), "known to be wrong"
    (terms["ce_dist"].value + terms["head 1"].value).backward()
    assert run.state.embedder.neck.weight.grad.abs().max() > 0
    assert method.heads[0].weight.grad.abs().max() > 0
