"""What every network returns."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Output(NamedTuple):
    """Result of a forward pass on B images.

    Attributes
    ----------
    logits : (B, K), what is evaluated; for two branches the log of the mean of their softmaxes.
    embedding : (B, D), what the metric losses and the embedding figures use; unit length where the paper's
        loss needs a bounded distance.
    branches : logits (B, K) of each classifier that cross-entropy trains.
    """

    logits: torch.Tensor
    embedding: torch.Tensor
    branches: tuple[torch.Tensor, ...]
