"""The papers' networks, one paper a file; every network returns the same `Output`."""

from __future__ import annotations

from torch import nn

from . import lkrnet
from .output import Output

__all__ = ["MODELS", "Output", "build_model"]

MODELS = {
    "vgg19": lkrnet.vgg19,
    "baseline1": lkrnet.baseline1,
    "baseline2": lkrnet.baseline2,
    "lkrnet": lkrnet.lkrnet,
}
"""Name -> function (num_classes, **options) that builds the network."""


def build_model(name: str, num_classes: int = 7, **options) -> nn.Module:
    """Build a network with random weights.

    Parameters
    ----------
    name : one of `MODELS`.
    num_classes : number of expressions.
    options : passed to the network's own function, for example ``width=0.25`` for LKRNet's family.

    Returns
    -------
    torch.nn.Module
        ``model(image, mask=None) -> Output`` for image float32 (B, 1, H, W) in 0-1 and, in the networks with
        a local branch, mask float32 (B, 1, H, W) in 0-1.

    Raises
    ------
    ValueError
        Unknown name.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}; choose from {', '.join(MODELS)}")
    return MODELS[name](num_classes, **options)
