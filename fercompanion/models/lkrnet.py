"""LKRNet (Zhu et al. 2020): VGG19 with a global and a local branch, and the arms of its ablation.

====================  ==========  ===========  =================================================
network               branches    loss         in the paper
====================  ==========  ===========  =================================================
`vgg19`               global      CE           "VGG19" of Tables 2 and 3
`baseline1`           both        CE           Baseline 1: key regions, no triplet
`baseline2`           global      CE+triplet   Baseline 2: triplet, no key regions
`lkrnet`              both        CE+triplet   "Our method"
====================  ==========  ===========  =================================================

The loss is the recipe's affair, so two networks serve the four arms.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from ..regions import downsample
from .output import Output, standardised

BLOCKS = ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4)
"""Channels of the 16 convolutions of VGG19, block by block (Fig. 3); each block ends in a max-pool."""

HEAD = (4096, 256)
"""Sizes of the two fully connected layers before the classifier (Sect. 3.2)."""

MASK_PLACES = ("conv3_4", "conv4_4", "conv5_4", "pool5")
"""Maps that Eq. 4 may multiply, from the largest to the literal "final feature maps" of 1 x 1."""


class VGG19(nn.Module):
    """Modified VGG19 of Fig. 3 with one global branch, or a global and a local one (Fig. 1).

    Parameters
    ----------
    num_classes : K.
    local : add the local branch, fed with the masked map p' of Eq. 4.
    mask_at : which map is p.  On 44 x 44 crops the maps after the pools are 22, 11, 5, 2 and 1 wide; "pool5"
        is the literal reading, under which the mask is one scalar an image.
    width : factor on the channels of the convolutions; 1 is the paper's.  The head keeps its size.
    dropout : probability of dropping a unit after FC4096 (Sect. 4.2 says 0.8, not of what).
    batch_norm : after every convolution (assumed).
    standardise : bring each image to zero mean and unit variance first (not in the paper).
    """

    def __init__(
        self,
        num_classes: int = 7,
        local: bool = False,
        mask_at: str = "conv5_4",
        width: float = 1.0,
        dropout: float = 0.5,
        batch_norm: bool = True,
        standardise: bool = False,
    ):
        super().__init__()
        if mask_at not in MASK_PLACES:
            raise ValueError(f"mask_at={mask_at!r}: choose from {', '.join(MASK_PLACES)}")
        self.mask_at = mask_at
        self.standardise = standardise
        channels = [tuple(int(c * width) for c in block) for block in BLOCKS]
        cut = {"conv3_4": 3, "conv4_4": 4, "conv5_4": 5, "pool5": 6}[mask_at]
        # Pool k opens the stage that follows block k, so that a stage ends in the map before its pool.
        stages = [
            _stage(channels[k - 1][-1] if k else 3, block, pool=k > 0, batch_norm=batch_norm)
            for k, block in enumerate(channels)
        ] + [nn.MaxPool2d(2)]
        self.trunk = nn.Sequential(*stages[:cut])
        branches = ["global", "local"] if local else ["global"]
        # Branches share the trunk; whatever follows p is theirs alone ("not shared", Sect. 3.1).
        self.tails = nn.ModuleDict()
        for branch in branches:
            own = [
                _stage(channels[k - 1][-1], channels[k], pool=True, batch_norm=batch_norm)
                for k in range(cut, 5)
            ]
            self.tails[branch] = nn.Sequential(*own, *([nn.MaxPool2d(2)] if cut < 6 else []))
        wide, narrow = HEAD
        self.heads = nn.ModuleDict({b: _head(channels[-1][-1], wide, narrow, dropout) for b in branches})
        self.classifiers = nn.ModuleDict({b: nn.Linear(narrow, num_classes) for b in branches})

    def forward(self, image: torch.Tensor, mask: torch.Tensor | None = None) -> Output:
        """image (B, 1, H, W) in 0-1 and, for a local branch, mask (B, 1, H, W) -> Output.

        Raises
        ------
        ValueError
            A local branch without a mask.
        """
        if self.standardise:
            image = standardised(image)
        p = self.trunk(image.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last))
        maps = {"global": p}  # p: (B, 512, 2, 2) for conv5_4 and 44 x 44
        if "local" in self.tails:
            if mask is None:
                raise ValueError("this network has a local branch: give it a key-region mask")
            maps["local"] = p * downsample(mask, *p.shape[2:]).to(p.dtype)  # Eq. 4
        features = {b: self.heads[b](self.tails[b](m).mean((2, 3))) for b, m in maps.items()}  # (B, 256)
        branches = tuple(self.classifiers[b](f) for b, f in features.items())  # (B, K) each
        embedding = F.normalize(features["global"].float(), dim=1)
        return Output(_fuse(branches), embedding, branches)


class Conv3x3(nn.Conv2d):
    """A 3 x 3 convolution with padding 1 that on the CPU treats maps of 2 x 2 and less as one matrix product.

    On such maps every place sees all others, so that the whole map is one vector and the kernels, laid out anew for each
    place, one matrix; the padding's zeros are left out.  The same sums in another order.  The CPU's convolution takes up
    to three times as long there.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C', H, W), as nn.Conv2d's."""
        height, width = x.shape[2:]
        if x.device.type != "cpu" or max(height, width) > 2:
            return super().forward(x)
        kernel = self.weight.permute(0, 2, 3, 1)  # (C', 3, 3, C)
        places = [(i, j) for i in range(height) for j in range(width)]
        seen = torch.stack([kernel[:, 1 - i : 1 - i + height, 1 - j : 1 - j + width] for i, j in places])
        matrix = seen.flatten(2).flatten(0, 1)  # (H W C', H W C)
        bias = None if self.bias is None else self.bias.repeat(len(places))
        y = F.linear(x.permute(0, 2, 3, 1).flatten(1), matrix, bias)
        return y.unflatten(1, (height, width, -1)).permute(0, 3, 1, 2)


vgg19 = partial(VGG19, local=False)
baseline1 = partial(VGG19, local=True)
baseline2 = partial(VGG19, local=False)
lkrnet = partial(VGG19, local=True)


def _fuse(branches: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Log of the mean of the branches' softmaxes ("fuses" in the paper; the mean is assumed)."""
    if len(branches) == 1:
        return branches[0]
    return torch.stack([b.float().log_softmax(1) for b in branches]).logsumexp(0) - torch.log(
        torch.tensor(float(len(branches)))
    )


def _stage(before: int, block: tuple[int, ...], pool: bool, batch_norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = [nn.MaxPool2d(2)] if pool else []
    for after in block:
        layers.append(Conv3x3(before, after, 3, padding=1))
        layers += [nn.BatchNorm2d(after)] if batch_norm else []
        layers.append(nn.ReLU(inplace=True))
        before = after
    return nn.Sequential(*layers)


def _head(features: int, wide: int, narrow: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(features, wide),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(wide, narrow),
        nn.ReLU(inplace=True),
    )
