"""Losses of the papers; a training loss takes (output, labels, triplets, recipe) and returns a scalar tensor."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def triplet_loss(
    anchor: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor, margin: float
) -> torch.Tensor:
    """Mean over triplets of ``max(|a - p|^2 - |a - n|^2 + margin, 0)`` (LKRNet Eq. 9).

    Parameters
    ----------
    anchor, positive, negative : (T, D) float tensors
        Embeddings; row i of the three is one triplet.
    margin : the paper's alpha in Eqs. 8 and 9, here named apart from the regions' alpha.

    Returns
    -------
    scalar tensor
        Squared Euclidean distances, and the mean over *all* T triplets, violated or not; 0 for T = 0.
    """
    gap = (anchor - positive).square().sum(-1) - (anchor - negative).square().sum(-1)
    return F.relu(gap + margin).sum() / max(len(gap), 1)


def cross_entropy_and_triplet(output, labels: torch.Tensor, triplets, recipe) -> torch.Tensor:
    """``L_cross + lambda L_triplet`` (LKRNet Eqs. 5-9).

    Cross-entropy is averaged over the images of the batch and summed over the network's classifiers: with a
    batch of anchors, positives and negatives this is Eq. 6 over 3, with the minus that the paper omits.
    With lambda = 0 the triplet term is not computed, so that the loss is Baseline 1's to the last bit.

    Parameters
    ----------
    output : `models.Output` of B images
    labels : int64 (B,)
    triplets : three int64 (T,) tensors of rows in the batch (anchors, positives, negatives), or None
    recipe : gives `lam`, `margin` and `label_smoothing`
    """
    loss = sum(
        F.cross_entropy(logits.float(), labels, label_smoothing=recipe.label_smoothing)
        for logits in output.branches
    )
    if recipe.lam == 0:
        return loss
    embedding = output.embedding.float()
    return loss + recipe.lam * triplet_loss(
        *(F.embedding(rows, embedding) for rows in triplets), recipe.margin
    )
