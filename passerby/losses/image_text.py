"""The contrastive loss of CLIP-ReID between images and the texts of their identities."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from passerby.losses.mining import to_full_precision


def image_text_loss(first: Tensor, second: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over rows i of -1/|P(i)| sum of log softmax_j <first_i, second_j> over j in P(i).

    P(i) are the columns with the label of row i. There is one column for each row of the batch, so the text of an
    identity that is drawn several times occurs as often. Dot products are taken as they are, without a temperature.

    Args:
        first: (B, E) images, or texts of their identities.
        second: (B, E) the others.
        labels: (B,) identities.

    Reference: Li et al., "CLIP-ReID: Exploiting Vision-Language Model for Image Re-Identification without Concrete Text
    Labels", AAAI 2023, equations 1 and 5.

    >>> import torch
    >>> x = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    >>> round(image_text_loss(x, x, torch.tensor([0, 1])).item(), 6)  # ln(1 + exp(-4))
    0.01815
    """
    logits = to_full_precision(first) @ to_full_precision(second).T  # (B, B)
    positive = (labels[:, None] == labels[None, :]).to(logits.dtype)
    of_rows = (F.log_softmax(logits, dim=1) * positive).sum(dim=1) / positive.sum(dim=1)
    return -of_rows.mean()
