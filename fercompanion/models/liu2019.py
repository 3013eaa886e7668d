"""Liu et al. 2019: model A (separable convolutions), model B (ResNet50), and the VGGs of their Table 1."""

from __future__ import annotations

import hashlib
import re
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torchvision import models as zoo
from torchvision.models.vgg import cfgs, make_layers

from ..data import DataError, first_line
from .output import Output, standardised

ENTRY = ((64, 64, 64, 64), (128, 128), (256, 256))
"""Channels of model A's entry flow, the first two full convolutions, each group before a 2 x 2 max-pool."""
MIDDLE = (256,) * 12
EXIT = (512, 1024)

PRINTED_PARAMETERS = 2_720_439
"""Sect. 2.2 and Table 1, for model A."""

SCALE = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
"""Of all torchvision's ImageNet weights."""


class PReLU(nn.PReLU):
    """nn.PReLU, on the CPU as ``relu(x) + slope * (x - relu(x))``: the same values and gradients.

    torch's own backward pass takes up to five times as long there, its forward pass a third.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, ...) -> the same shape."""
        if x.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(x)
        slope = self.weight.to(x.dtype).view(-1, 1, 1)
        positive = F.relu(x)
        return torch.addcmul(positive, slope, x - positive)


class ModelA(nn.Module):
    """The lightweight network of Sect. 2.2 and Fig. 1.

    Printed are the flows (2 convolutions and 6 separable ones; 4 x 3 separable ones; 2 separable ones and one
    convolution), the 6 x 6 x 256 maps between them on 48 x 48 images, and the total.  The other channels are
    assumed: doubling after each pool and at the exit, 512 and 1024.

    Parameters
    ----------
    num_classes : K.
    width : factor on all channels; 1 is the paper's.
    dropout : probability of dropping a unit before the last convolution (the paper names no rate).
    activation : "prelu", with one slope a channel, or "relu".
    standardise : bring each image to zero mean and unit variance first (not in the paper).
    """

    def __init__(
        self,
        num_classes: int = 7,
        width: float = 1.0,
        dropout: float = 0.5,
        activation: str = "prelu",
        standardise: bool = False,
    ):
        super().__init__()
        if activation not in ("prelu", "relu"):
            raise ValueError(f"activation={activation!r}: choose prelu or relu")
        self.standardise = standardise
        before, entry = 1, []
        for group, channels in enumerate(ENTRY):
            for place, after in enumerate(channels):
                full = group == 0 and place < 2
                entry.append(_unit(before, int(after * width), activation, separable=not full))
                before = int(after * width)
            entry.append(nn.MaxPool2d(2))
        self.entry = nn.Sequential(*entry)
        self.middle, before = _units(before, MIDDLE, width, activation)
        self.exit, before = _units(before, EXIT, width, activation)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Conv2d(before, num_classes, 3, padding=1)

    def forward(self, image: torch.Tensor, mask: torch.Tensor | None = None) -> Output:
        """image (B, 1, H, W) in 0-1 -> Output, whose embedding (B, 1024) is the mean of the last map."""
        if self.standardise:
            image = standardised(image)
        x = self.entry(image.contiguous(memory_format=torch.channels_last))  # (B, 256, 6, 6) of 48 x 48
        x = self.exit(self.middle(x))  # (B, 1024, 6, 6)
        logits = self.classifier(self.dropout(x)).mean((2, 3))
        return Output(logits, x.mean((2, 3)).float(), (logits,))


liu_a = ModelA


def parameter_counts(model: ModelA) -> dict[str, int]:
    """What "the number of parameters" of model A can mean, on the way from our count to the printed one.

    Keras, which the paper used, gives PReLU one slope for each *element* of a map and counts the means and
    variances of batch normalisation as parameters.  Its slopes are counted for images of 48 x 48.

    Returns
    -------
    dict
        "trained": of our network.  "running statistics": two a channel of every batch normalisation.
        "slopes": PReLU's in our network.  "slopes, one an element": those of Keras.  "Keras": trained - slopes +
        slopes an element + running statistics.  "printed": 2,720,439.
    """
    elements: list[int] = []
    prelus = [m for m in model.modules() if isinstance(m, nn.PReLU)]
    hooks = [m.register_forward_hook(lambda _, __, out: elements.append(out[0].numel())) for m in prelus]
    training = model.training
    with torch.no_grad():
        model.eval()(torch.zeros(1, 1, 48, 48, device=model.classifier.weight.device))
    model.train(training)
    for hook in hooks:
        hook.remove()
    trained = sum(p.numel() for p in model.parameters())
    statistics = sum(2 * m.num_features for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    slopes = sum(m.num_parameters for m in prelus)
    return {
        "trained": trained,
        "running statistics": statistics,
        "slopes": slopes,
        "slopes, one an element": sum(elements),
        "Keras": trained - slopes + sum(elements) + statistics,
        "printed": PRINTED_PARAMETERS,
    }


class ResNet50(zoo.ResNet):
    """torchvision's ResNet50 without its classifier, and with a factor on the channels of its blocks."""

    def __init__(self, width: float = 1.0):
        self.width = width
        super().__init__(zoo.resnet.Bottleneck, [3, 4, 6, 3])
        self.fc = nn.Identity()
        self.features = self.layer4[-1].bn3.num_features

    def _make_layer(self, block, planes: int, *others, **named):
        return super()._make_layer(block, int(planes * self.width), *others, **named)


class ModelB(nn.Module):
    """Model B of Sect. 3: torchvision's ResNet50 with a new classifier, on grey images copied to three channels.

    Parameters
    ----------
    num_classes : K.
    weights : "none" (random), the name of torchvision weights, or a state-dict file; see `pretrained`.
    dropout : probability of dropping a unit before the classifier (not in the paper).
    width : factor on the channels of the residual blocks; 1 is ResNet50.
    standardise : bring each image to zero mean and unit variance, in place of the weights' mean and deviation.

    Raises
    ------
    DataError
        The weights are not at hand or not ResNet50's.
    """

    def __init__(
        self,
        num_classes: int = 7,
        weights: str = "none",
        dropout: float = 0.0,
        width: float = 1.0,
        standardise: bool = False,
    ):
        super().__init__()
        self.standardise = standardise
        if weights != "none" and width != 1:
            raise DataError(f"weights={weights!r} are of the full ResNet50; set width=1 or weights='none'")
        state, scale = pretrained(weights) if weights != "none" else ({}, SCALE)
        self.resnet = ResNet50(width)
        if weights != "none":
            state = {k: v for k, v in state.items() if not k.startswith("fc.")}
            own = self.resnet.state_dict()
            other = [k for k in own.keys() | state.keys() if k not in own or k not in state]
            other += [k for k in own.keys() & state.keys() if own[k].shape != state[k].shape]
            if other:
                raise DataError(
                    f"weights={weights!r} are not ResNet50's ({len(other)} entries differ, as {min(other)}); "
                    "give a state dict of torchvision's resnet50"
                )
            self.resnet.load_state_dict(state)
        for name, value in scale.items():
            self.register_buffer(name, torch.tensor(value)[:, None, None], persistent=False)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(self.resnet.features, num_classes)

    def forward(self, image: torch.Tensor, mask: torch.Tensor | None = None) -> Output:
        """image (B, 1, H, W) in 0-1 -> Output, whose embedding (B, 2048) is the mean of the last map."""
        image = (image - self.mean) / self.std if not self.standardise else standardised(image)
        image = image.expand(-1, 3, -1, -1)
        features = self.resnet(image.contiguous(memory_format=torch.channels_last))
        logits = self.classifier(self.dropout(features))
        return Output(logits, features.float(), (logits,))


liu_b = ModelB


def pretrained(weights: str) -> tuple[dict[str, torch.Tensor], dict[str, tuple[float, ...]]]:
    """A state dict, and the mean and standard deviation by channel that its network expects.

    Parameters
    ----------
    weights : name of torchvision weights ("ResNet50_Weights.IMAGENET1K_V1"), taken from torch's own cache
        ($TORCH_HOME/hub/checkpoints) or downloaded into it; or a file.  A file whose name ends in torchvision's
        way, "-0676ba61.pth", must have a SHA-256 that begins so.

    Raises
    ------
    DataError
        In one line: what is missing or wrong, where, and what to do.
    """
    path, scale = Path(weights).expanduser(), SCALE
    if re.fullmatch(r"\w+_Weights\.\w+", weights):
        try:
            known = zoo.get_weight(weights)
        except (KeyError, ValueError) as error:
            raise DataError(f"weights={weights!r}: torchvision knows no such weights ({error})") from None
        path = Path(torch.hub.get_dir(), "checkpoints", known.url.rsplit("/", 1)[1])
        transforms = known.transforms()
        scale = {"mean": tuple(transforms.mean), "std": tuple(transforms.std)}
        if not path.is_file():
            try:
                known.get_state_dict(progress=True, check_hash=True)
            except (OSError, RuntimeError) as error:
                raise DataError(
                    f"weights={weights!r}: not in {path.parent} and not downloaded ({error}); put {path.name} "
                    f"from {known.url} there, or set weights='none' for random ones"
                ) from None
    if not path.is_file():
        raise DataError(
            f"weights={weights!r}: there is no such file; give a file, the name of torchvision weights such as "
            "ResNet50_Weights.IMAGENET1K_V1, or 'none' for random ones"
        )
    named = re.search(r"-([0-9a-f]{8,64})\.pth?$", path.name)
    if named:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if not digest.startswith(named[1]):
            raise DataError(
                f"{path}: its SHA-256 begins with {digest[:8]}, not {named[1]}; delete the file and get it anew"
            )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {k: v for k, v in state.items() if torch.is_tensor(v)}, scale
    except Exception as error:  # torch.load raises whatever the bytes lead it to
        raise DataError(f"{path}: not a state dict ({first_line(error)}); give another") from None


class PlainVGG(nn.Module):
    """torchvision's VGG features, the mean of their last map, dropout and one linear classifier.

    Table 1's counts for VGG16 and VGG19 are those of the convolutions alone, so that the paper's heads are not
    known.

    Parameters
    ----------
    layout : "D" (VGG16) or "E" (VGG19), a key of torchvision's ``vgg.cfgs``.
    num_classes, width, dropout, batch_norm, standardise : as in LKRNet's `VGG19`.
    """

    def __init__(
        self,
        layout: str,
        num_classes: int = 7,
        width: float = 1.0,
        dropout: float = 0.5,
        batch_norm: bool = True,
        standardise: bool = False,
    ):
        super().__init__()
        self.standardise = standardise
        channels = [c if c == "M" else int(c * width) for c in cfgs[layout]]
        self.features = make_layers(channels, batch_norm)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels[-2], num_classes)

    def forward(self, image: torch.Tensor, mask: torch.Tensor | None = None) -> Output:
        """image (B, 1, H, W) in 0-1, H and W 32 or more -> Output, whose embedding is (B, 512)."""
        if self.standardise:
            image = standardised(image)
        image = image.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        features = self.features(image).mean((2, 3))
        logits = self.classifier(self.dropout(features))
        return Output(logits, features.float(), (logits,))


vgg16 = partial(PlainVGG, "D")
vgg19_liu = partial(PlainVGG, "E")


def _unit(before: int, after: int, activation: str, separable: bool) -> nn.Sequential:
    """Convolution 3 x 3 or its separable form, batch normalisation, activation.

    As in Keras a separable convolution has one bias, after its second step; the full ones have none, since a
    batch normalisation follows.
    """
    if separable:
        layers = [
            nn.Conv2d(before, before, 3, padding=1, groups=before, bias=False),
            nn.Conv2d(before, after, 1),
        ]
    else:
        layers = [nn.Conv2d(before, after, 3, padding=1, bias=False)]
    slope = PReLU(after) if activation == "prelu" else nn.ReLU(inplace=True)
    return nn.Sequential(*layers, nn.BatchNorm2d(after), slope)


def _units(before: int, channels: tuple[int, ...], width: float, activation: str):
    """Separable units in a row, and the channels after them."""
    units = []
    for after in channels:
        units.append(_unit(before, int(after * width), activation, separable=True))
        before = int(after * width)
    return nn.Sequential(*units), before
