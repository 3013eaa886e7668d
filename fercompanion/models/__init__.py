"""The papers' networks, one paper a file; every network returns the same `Output`."""

from __future__ import annotations

from inspect import signature

from torch import nn

from . import dnnrl, kim2022, liu2019, lkrnet
from .output import Output

__all__ = ["MODELS", "Output", "build_model"]

MODELS = {
    "vgg19": lkrnet.vgg19,
    "baseline1": lkrnet.baseline1,
    "baseline2": lkrnet.baseline2,
    "lkrnet": lkrnet.lkrnet,
    "dnnrl": dnnrl.dnnrl,
    "alexnet": dnnrl.alexnet,
    "liu_a": liu2019.liu_a,
    "liu_b": liu2019.liu_b,
    "vgg16": liu2019.vgg16,
    "liu_vgg19": liu2019.vgg19_liu,
    "kim": kim2022.kim,
    "kim_resnet18": kim2022.kim_resnet18,
}
"""Name -> function (num_classes, **options) that builds the network."""


def options(name: str) -> list[str]:
    """Names of the options that a network's function takes.

    Raises
    ------
    ValueError
        Unknown name.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}; choose from {', '.join(MODELS)}")
    return [k for k in signature(MODELS[name]).parameters if k != "num_classes"]


def build_model(name: str, num_classes: int = 7, **chosen) -> nn.Module:
    """Build a network with random weights.

    Parameters
    ----------
    name : one of `MODELS`.
    num_classes : number of expressions.
    chosen : options of the network's own function, for example ``width=0.25``.

    Returns
    -------
    torch.nn.Module
        ``model(image, mask=None) -> Output`` for image float32 (B, 1, H, W) in 0-1 and, in the networks with
        a local branch, mask float32 (B, 1, H, W) in 0-1.

    Raises
    ------
    ValueError
        Unknown name or option.
    """
    allowed = options(name)
    unknown = [k for k in chosen if k not in allowed]
    if unknown:
        raise ValueError(f"{name} has no option {unknown[0]!r}; its options are {', '.join(allowed)}")
    return MODELS[name](num_classes, **chosen)
