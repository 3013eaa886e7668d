"""DNNRL (Guo et al. 2016): three convolutions, three Inception modules, a unit-length embedding; and AlexNet beside it.

==========  ==================================  =====================================
arm         trained with                        in the paper's Table 2
==========  ==================================  =====================================
`dnn`       cross-entropy                       "DNN", softmax
`tdnn`      triplet loss                        "T-DNN", k-NN on the embeddings
`dnnrl`     exponential triplet loss (Eq. 1)    "DNNRL", k-NN on the embeddings
`alexnet`   cross-entropy, the other network    "AlexNet", softmax
==========  ==================================  =====================================

The first three share one network, `dnnrl`; which loss trains it is the recipe's affair.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from .output import Output, standardised

WIDTHS = {"inception3a": (70, 96, 90), "inception4a": (102, 96, 90), "inception5a": (102, 96, 90)}
"""Channels of the 1 x 1, 3 x 3 and 5 x 5 convolutions of each module.

The paper prints only their sum and the number of weights.  With no 1 x 1 reductions and no pooling branch both fix
c3 + 3 c5 = 366 (in 3a 365 fits too); which c3 and c5 is free, and 96 and 90 are assumed.
"""


class DNNRL(nn.Module):
    """The network of Fig. 1 and Table 1; its output sizes and numbers of weights are Table 1's at 108 x 108.

    Pools round up and pad nothing: only so do maps shrink 54, 27, 13, 6.  Convolutions have no bias (batch norm
    follows, Sect. 3.1), nor has the linear layer (Table 1 counts 2 * 2 * 288 * 512 = 589 K).

    Parameters
    ----------
    num_classes : K of the linear classifier on the 512 features, which Table 1 lacks and the arm "DNN" needs.  It
        learns only where the recipe weighs cross-entropy.
    width : factor on the channels of the convolutions; 1 is the paper's.  The embedding keeps its 512 dimensions.
    dropout : probability of dropping a unit before the linear layer (Table 1: 20 %).
    standardise : bring each image to zero mean and unit variance first (not in the paper).
    """

    def __init__(
        self, num_classes: int = 7, width: float = 1.0, dropout: float = 0.2, standardise: bool = False
    ):
        super().__init__()
        self.standardise = standardise
        narrow, wide = int(32 * width), int(64 * width)
        modules, before = {}, wide
        for name, channels in WIDTHS.items():
            modules[name] = Inception(before, tuple(int(c * width) for c in channels))
            before = modules[name].channels
        self.trunk = nn.Sequential(
            OrderedDict(
                conv1=_convolution(1, narrow, stride=2, relu=True),
                conv2=_convolution(narrow, narrow, relu=True),
                conv3=_convolution(narrow, wide),
                pool1=_max_pool(),
                inception3a=modules["inception3a"],
                pool2=_max_pool(),
                inception4a=modules["inception4a"],
                pool3=_max_pool(),
                inception5a=modules["inception5a"],
                # On 6 x 6 maps Table 1's 3 x 3 / 3; on others no crash.
                pool4=nn.Sequential(nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(2)),
                dropout=nn.Dropout(dropout),
            )
        )
        self.linear = nn.Linear(4 * before, 512, bias=False)
        self.classifier = nn.Linear(512, num_classes)

    def forward(self, image: torch.Tensor, mask: torch.Tensor | None = None) -> Output:
        """image (B, 1, 108, 108) in 0-1 (other sizes work too) -> Output with unit-length embedding (B, 512)."""
        image = standardised(image) if self.standardise else image
        maps = self.trunk(image.contiguous(memory_format=torch.channels_last))  # (B, 288, 2, 2)
        features = self.linear(maps.flatten(1))
        logits = self.classifier(features)
        return Output(logits, F.normalize(features.float(), dim=1), (logits,))


class Inception(nn.Module):
    """1 x 1, 3 x 3 and 5 x 5 convolutions in parallel (Sect. 3.1), then batch norm of them all.

    Its ReLU stands in the pool that follows.

    Parameters
    ----------
    before : channels that come in.
    widths : channels of the three.
    """

    def __init__(self, before: int, widths: tuple[int, int, int]):
        super().__init__()
        self.channels = sum(widths)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, size, padding=size // 2, bias=False)
            for size, after in zip((1, 3, 5), widths, strict=True)
        )
        self.norm = nn.BatchNorm2d(self.channels)  # one for three: it looks at each channel alone

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, sum of widths, H, W)."""
        return self.norm(torch.cat([convolution(x) for convolution in self.convolutions], 1))


class AlexNet(nn.Module):
    """torchvision's AlexNet for grey images: the paper names AlexNet and not how it takes 108 x 108.

    Its last map is 2 x 2 there, which torchvision's adaptive pool spreads to the 6 x 6 that its head expects.
    Weights start as He et al. 2015 propose: with torch's own start the signal fades over eight layers without batch
    norm, and SGD rests on a plateau for epochs.

    Parameters
    ----------
    num_classes : K.
    width : factor on channels and on the 4096 of the head.
    dropout : before each of the two 4096 (torchvision's place and value).
    standardise : bring each image to zero mean and unit variance first (not in the paper).
    """

    def __init__(
        self, num_classes: int = 7, width: float = 1.0, dropout: float = 0.5, standardise: bool = False
    ):
        super().__init__()
        self.standardise = standardise
        with torch.device("meta"):
            theirs = torchvision.models.AlexNet(num_classes, dropout)
        features, channels = _narrowed(theirs.features, 1, width)
        head, units = _narrowed(theirs.classifier[:-1], 36 * channels, width)
        self.features, self.avgpool, self.head = features, theirs.avgpool, head
        self.classifier = nn.Linear(units, num_classes)
        for layer in [*self.features, *self.head]:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def forward(self, image: torch.Tensor, mask: torch.Tensor | None = None) -> Output:
        """image (B, 1, 108, 108) in 0-1 -> Output; the embedding is the last hidden layer, at unit length."""
        image = standardised(image) if self.standardise else image
        maps = self.avgpool(self.features(image.contiguous(memory_format=torch.channels_last)))
        features = self.head(maps.flatten(1))
        logits = self.classifier(features)
        return Output(logits, F.normalize(features.float(), dim=1), (logits,))


dnnrl, alexnet = DNNRL, AlexNet


def layer_table(model: DNNRL) -> list[tuple[str, str, int, int]]:
    """Table 1 as a forward pass on one 108 x 108 image and the weights tell it.

    Returns
    -------
    list of (layer, output, weights, operations)
        Layers in order; output as "54×54×32"; multiplications of one image.  Batch norm and the classifier, which
        the paper's table does not count, are left out.
    """
    rows, maps = [], torch.zeros(1, 1, 108, 108)
    for name, module in [*model.eval().trunk.named_children(), ("linear", model.linear)]:
        with torch.no_grad():
            maps = module(maps if name != "linear" else maps.flatten(1))
        weights = sum(p.numel() for p in module.parameters() if p.dim() > 1)
        channels, *sides = maps.shape[1:] if maps.dim() == 4 else (maps.shape[1], 1, 1)
        area = sides[0] * sides[1]
        rows.append((name, "×".join(map(str, (*sides, channels))), weights, weights * area))
    return rows


def _convolution(before: int, after: int, stride: int = 1, relu: bool = False) -> nn.Sequential:
    layers = [nn.Conv2d(before, after, 3, stride, padding=1, bias=False), nn.BatchNorm2d(after)]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if relu else []))


def _max_pool() -> nn.Sequential:
    """3 x 3 / 2, then the ReLU of the layer before: the same maximum at a quarter of the work."""
    return nn.Sequential(nn.MaxPool2d(3, 2, ceil_mode=True), nn.ReLU(inplace=True))


def _narrowed(layers: nn.Sequential, before: int, width: float) -> tuple[nn.Sequential, int]:
    """The layers with `width` times their channels, on an input of `before` channels; and the last number of channels."""
    new = []
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            after = int(layer.out_channels * width)
            layer = nn.Conv2d(before, after, layer.kernel_size, layer.stride, layer.padding)
            before = after
        elif isinstance(layer, nn.Linear):
            layer = nn.Linear(before, int(layer.out_features * width))
            before = layer.out_features
        new.append(layer)
    return nn.Sequential(*new), before
