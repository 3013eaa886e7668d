"""What every network returns, and the first step that all of them offer."""

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


def standardised(image: torch.Tensor) -> torch.Tensor:
    """Each image (B, C, H, W) with zero mean and unit variance (a constant one with zeros); in none of the papers."""
    deviation, mean = torch.std_mean(image, dim=(1, 2, 3), keepdim=True)
    return (image - mean) / deviation.clamp(min=0.01)
