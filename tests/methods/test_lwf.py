"""What learning without forgetting keeps."""

from types import SimpleNamespace

import torch
from torch import nn

from passerby.methods.lwf import LwfSettings


def test_more_classifiers_than_ten_come_back_in_their_order():
    part, again = (LwfSettings(heads=1.0).make() for _ in range(2))
    part.kept = nn.ModuleList(nn.Linear(4, people, bias=False) for people in range(2, 14))
    assert (part.hollow, again.hollow) == (False, True)
    again.make_room(SimpleNamespace(device=torch.device("cpu")), part.state_dict())
    again.load_state_dict(part.state_dict())
    assert [len(head.weight) for head in again.kept] == list(range(2, 14))
