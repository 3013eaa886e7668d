"""Losses of the papers, each a plain function or module, and `TrainingLoss`, which adds up what a recipe asks for."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


def triplet_loss(
    anchor: torch.Tensor,
    positive: torch.Tensor,
    negative: torch.Tensor,
    margin: float,
    real: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean over triplets of ``max(|a - p|^2 - |a - n|^2 + margin, 0)`` (LKRNet Eq. 9).

    Parameters
    ----------
    anchor, positive, negative : (T, D) float tensors
        Embeddings; row i of the three is one triplet.
    margin : the paper's alpha in Eqs. 8 and 9, here named apart from the regions' alpha.
    real : bool (T,), which triplets count; all if omitted.

    Returns
    -------
    scalar tensor
        Squared Euclidean distances, and the mean over *all* triplets that count, violated or not; 0 for none.
    """
    gap = (anchor - positive).square().sum(-1) - (anchor - negative).square().sum(-1)
    return _mean(F.relu(gap + margin), real)


def exponential_triplet_loss(
    anchor: torch.Tensor,
    positive: torch.Tensor,
    negative: torch.Tensor,
    alpha: float = 0.2,
    gamma: float = 0.0,
    clamp: bool = True,
    real: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean over triplets of ``exp(-alpha max(D - gamma, 0))``, D = |a - n|^2 - |a - p|^2 (DNNRL Eqs. 1-4).

    D has the sign of the paper's gradients and its Fig. 3; Eq. 1 prints the opposite one, which would push
    positives away.

    Parameters
    ----------
    anchor, positive, negative : (T, D) float tensors
        Embeddings; row i of the three is one triplet.
    alpha, gamma : the paper's trade-off and learning margin.
    clamp : as printed, a triplet with D <= gamma has no gradient.  Without the clamp the loss goes on to rise
        for such triplets, so that the hardest weigh most, as the paper says of its loss.
    real : bool (T,), which triplets count; all if omitted.

    Returns
    -------
    scalar tensor
        The mean over all triplets that count; 0 for none.
    """
    gap = (anchor - negative).square().sum(-1) - (anchor - positive).square().sum(-1) - gamma
    return _mean(torch.exp(-alpha * (F.relu(gap) if clamp else gap)), real)


def _mean(terms: torch.Tensor, real: torch.Tensor | None) -> torch.Tensor:
    """Mean of those terms (T,) that count; 0 if none does.  How many is not asked of a GPU, which would have to wait."""
    if real is None:
        return terms.sum() / max(len(terms), 1)
    return (terms * real).sum() / real.sum().clamp(min=1)


class CenterLoss(nn.Module):
    """Half the mean squared distance of features to the centre of their class (Liu et al. Eq. 4, after Wen et al.).

    The centres are no parameters: in training mode each call moves them towards the features that it was given,
    by `rate` times ``sum(c_j - x_i) / (1 + n_j)`` over the n_j features of class j.

    Parameters
    ----------
    num_classes, dim : K and D; the centres (K, D) start at zero.
    rate : Wen's alpha, 0 to 1.
    """

    def __init__(self, num_classes: int, dim: int, rate: float = 0.5):
        super().__init__()
        self.rate = rate
        self.register_buffer("centers", torch.zeros(num_classes, dim))

    def forward(self, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """features (B, D) float and labels int64 (B,) -> scalar: ``0.5 sum |x - c_y|^2 / B``."""
        loss = 0.5 * (features - self.centers[labels]).square().sum() / max(len(features), 1)
        if self.training:
            with torch.no_grad():
                one_hot = F.one_hot(labels, len(self.centers)).to(self.centers.dtype)  # (B, K)
                count = one_hot.sum(0)[:, None]
                gap = count * self.centers - one_hot.T @ features.to(self.centers.dtype)
                self.centers -= self.rate * gap / (1 + count)
        return loss


class TrainingLoss(nn.Module):
    """The loss of a recipe: ``cross_entropy * CE + lam * metric``.

    Cross-entropy is averaged over the images of the batch and summed over the network's classifiers: with a
    batch of anchors, positives and negatives this is LKRNet's Eq. 6 over 3, with the minus that the paper omits; read
    as the sum that the paper's text has, cross-entropy would weigh three times as much beside the same lambda.
    A term of weight 0 is not computed, so that LKRNet with lambda = 0 has Baseline 1's loss to the last bit.

    Parameters
    ----------
    recipe : gives `cross_entropy`, `label_smoothing`, `metric`, `lam` and the metric's own parameters.
    num_classes, dim : K, and the length D of the embeddings.
    """

    def __init__(self, recipe, num_classes: int, dim: int):
        super().__init__()
        self.recipe = recipe
        self.center = (
            CenterLoss(num_classes, dim, recipe.center_rate)
            if recipe.metric == "center" and recipe.lam
            else None
        )

    def forward(self, output, labels: torch.Tensor, triplets) -> torch.Tensor:
        """The loss of a batch.

        Parameters
        ----------
        output : `models.Output` of B images
        labels : int64 (B,)
        triplets : three int64 (T,) tensors of rows in the batch (anchors, positives, negatives) and bool (T,), which of
            them count; or None
        """
        r, loss = self.recipe, 0.0
        if r.cross_entropy:
            terms = (
                F.cross_entropy(logits.float(), labels, label_smoothing=r.label_smoothing)
                for logits in output.branches
            )
            loss = r.cross_entropy * sum(terms)
        if r.lam == 0:
            return loss
        embedding = output.embedding.float()
        if self.center is not None:
            return loss + r.lam * self.center(embedding, labels)
        *rows, real = triplets
        anchor, positive, negative = (F.embedding(row, embedding) for row in rows)
        if r.metric == "exponential":
            return loss + r.lam * exponential_triplet_loss(
                anchor, positive, negative, r.alpha, r.gamma, r.clamp, real
            )
        if r.metric == "triplet":
            return loss + r.lam * triplet_loss(anchor, positive, negative, r.margin, real)
        raise ValueError(f"metric={r.metric!r}: has no loss here")
