"""Kim et al. 2022: a spatial transformer that crops, turns and stretches the face before a ResNet of 10 or 18 layers sees it.

==============  =========================  ==============================================
network         ResNet                     in the paper's Table 2
==============  =========================  ==============================================
`kim`           10 layers (Table 1)        "Modified Resnet", with triplet loss or softmax
`kim_resnet18`  18 layers                  "Resnet18", with softmax
==============  =========================  ==============================================

Which loss trains them is the recipe's affair.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.resnet import BasicBlock, conv1x1

from .lkrnet import Conv3x3
from .output import Output, standardised

SIZE = 48
"""Side of the images in pixels; the localisation network's last layer is made for it."""

CHANNELS = (64, 128, 256, 512)
"""Channels of the four stages (Table 1)."""

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
"""The affine map theta that leaves an image as it is, row by row."""


class SpatialTransformer(nn.Module):
    """Sect. 2.1 and Fig. 2 (after Jaderberg et al. 2015), on the image itself: three parts, one affine map an image.

    The localisation network says which part of the image to look at, the grid generator where each pixel of the
    result comes from, the sampler fetches it (bilinear; black outside the image).  The paper names two
    convolutions, each with max-pool and ReLU, and one fully connected layer; channels and kernels are assumed,
    those of PyTorch's tutorial.  It starts as the identity.

    Parameters
    ----------
    rate : theta = identity + rate * (output - identity).  At 1 the network's output is theta itself, and the first
        steps may well turn the face out of the picture, from where no gradient leads back: two of nine short runs
        with Adam and more with SGD.  At 0.1 none did.
    """

    def __init__(self, rate: float = 1.0):
        super().__init__()
        self.rate = rate
        self.localisation = nn.Sequential(
            nn.Conv2d(1, 8, 7),  # 48 -> 42
            nn.MaxPool2d(2),
            nn.ReLU(inplace=True),
            nn.Conv2d(8, 10, 5),  # 21 -> 17
            nn.MaxPool2d(2),
            nn.ReLU(inplace=True),
            nn.Flatten(),  # 10 x 8 x 8
            nn.Linear(640, 6),
        )
        self.register_buffer("identity", torch.tensor(IDENTITY), persistent=False)
        last = self.localisation[-1]
        nn.init.zeros_(last.weight)
        with torch.no_grad():
            last.bias.copy_(self.identity)

    def theta(self, image: torch.Tensor) -> torch.Tensor:
        """image (B, 1, 48, 48) -> affine map (B, 2, 3): where in the image (x, y from -1 to 1) the result looks."""
        found = self.localisation(image).float()
        return torch.lerp(self.identity.expand_as(found), found, self.rate).view(-1, 2, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 1, 48, 48) -> (B, 1, 48, 48)."""
        return sample(image, self.theta(image))


def sample(image: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
    """Grid generator and sampler: images (B, C, H, W) seen through affine maps (B, 2, 3).

    In float32 whatever the network computes in: bfloat16 knows where a pixel lies to a fifth of one.
    """
    with torch.autocast(image.device.type, enabled=False):
        grid = F.affine_grid(theta.float(), list(image.shape), align_corners=False)
    return F.grid_sample(image.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)


class Kim(nn.Module):
    """Spatial transformer, ResNet, average pool, one linear layer (Fig. 1, Table 1).

    torchvision's ResNet but for its first convolution, which takes one grey channel.  Of a 48 x 48 image its maps
    are 24, 12, 6, 3 and 2 wide, as Table 1 prints.

    Parameters
    ----------
    blocks : residual blocks in each of the four stages.
    num_classes : K.
    width : factor on the ResNet's channels; 1 is the paper's.
    standardise : bring each image to zero mean and unit variance first (not in the paper).
    localisation_rate : see `SpatialTransformer`.
    """

    def __init__(
        self,
        blocks: tuple[int, int, int, int],
        num_classes: int = 7,
        width: float = 1.0,
        standardise: bool = False,
        localisation_rate: float = 1.0,
    ):
        super().__init__()
        self.standardise = standardise
        self.transformer = SpatialTransformer(localisation_rate)
        channels = [int(c * width) for c in CHANNELS]
        stem = nn.Conv2d(1, channels[0], 7, stride=2, padding=3, bias=False)
        layers = OrderedDict(
            conv1=nn.Sequential(stem, nn.BatchNorm2d(channels[0]), nn.ReLU(inplace=True)),
            conv2=nn.Sequential(
                nn.MaxPool2d(3, 2, padding=1), *_stage(channels[0], channels[0], blocks[0], 1)
            ),
        )
        for k in (1, 2, 3):
            layers[f"conv{k + 2}"] = nn.Sequential(*_stage(channels[k - 1], channels[k], blocks[k], 2))
        self.trunk = nn.Sequential(layers)
        for layer in self.trunk.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        self.classifier = nn.Linear(channels[-1], num_classes)

    def forward(self, image: torch.Tensor, mask: torch.Tensor | None = None) -> Output:
        """image (B, 1, 48, 48) in 0-1 -> Output with unit-length embedding (B, 512) of the pooled features."""
        seen = self.transformer(self._scaled(image))
        maps = self.trunk(seen.contiguous(memory_format=torch.channels_last))  # (B, 512, 2, 2)
        features = maps.mean((2, 3))
        logits = self.classifier(features)
        return Output(logits, F.normalize(features.float(), dim=1), (logits,))

    def theta(self, image: torch.Tensor) -> torch.Tensor:
        """The affine map (B, 2, 3) that the transformer chooses for images (B, 1, 48, 48) in 0-1."""
        return self.transformer.theta(self._scaled(image))

    def transform(self, image: torch.Tensor) -> torch.Tensor:
        """What the ResNet is shown of images (B, 1, 48, 48) in 0-1, in the same grey values."""
        return sample(image, self.theta(image))

    def _scaled(self, image: torch.Tensor) -> torch.Tensor:
        return standardised(image) if self.standardise else image


kim, kim_resnet18 = partial(Kim, (1, 1, 1, 1)), partial(Kim, (2, 2, 2, 2))


def layer_sizes(model: Kim) -> dict[str, str]:
    """Table 1 as a forward pass tells it: "conv1" -> "24×24×64" and so on, and the pooled features."""
    maps, sizes = torch.zeros(1, 1, SIZE, SIZE), {}
    was = model.training
    model.eval()
    with torch.no_grad():
        for name, stage in model.trunk.named_children():
            maps = stage(maps)
            sizes[name] = f"{maps.shape[2]}×{maps.shape[3]}×{maps.shape[1]}"
    model.train(was)
    return sizes | {"average pool": f"1×1×{maps.shape[1]}"}


def _stage(before: int, channels: int, blocks: int, stride: int) -> list[BasicBlock]:
    """Residual blocks, of which the first may halve the map."""
    shortcut = None
    if stride != 1:
        shortcut = nn.Sequential(conv1x1(before, channels, stride), nn.BatchNorm2d(channels))
    stage = [BasicBlock(before, channels, stride, shortcut)]
    stage += [BasicBlock(channels, channels) for _ in range(blocks - 1)]
    for block in stage:
        for name in ("conv1", "conv2"):
            if getattr(block, name).stride == (1, 1):  # the same sums, faster on maps of 2 x 2
                setattr(block, name, Conv3x3(block.conv2.in_channels, channels, 3, padding=1, bias=False))
    return stage
