"""Enlarging faces twofold: bicubic, or by SRGAN (Ledig et al. 2017), which Liu et al. put before model B.

Liu et al. (Sect. 3.2) say neither what their SRGAN was trained on nor with which weights.  Here a generator learns
24 -> 48 pixels on a data set's own Training images, shrunk by averaging 2 x 2 pixels, and is applied to 48 -> 96.
It departs from Ledig et al. in three ways, for there are neither ImageNet's VGG features nor large images at hand:

- the perceptual term compares features of the discriminator instead of VGG's (as Larsen et al. 2016 do);
- the generator adds to the bicubic enlargement what it has learnt, so that it starts from there;
- the discriminator averages its last map instead of flattening it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .augment import random_crop, random_flip
from .data import DataError, Faces, first_line, unreadable
from .landmarks import cache_dir, try_to_write
from .predict import Machine, this_machine
from .progress import tqdm
from .recipes import CHOICES
from .whole import whole


@dataclass(frozen=True)
class Settings:
    """How a generator is built and trained; a change of any value makes a new one.

    Attributes
    ----------
    blocks, channels : of the generator (Ledig et al.: 16 and 64).
    critic : channels of the discriminator's first layer (64); eight layers end in eight times as many.
    content_steps : steps on the pixels alone, which Ledig et al. take before the adversarial ones.
    adversarial_steps : steps with perceptual and adversarial loss.
    batch_size : images a step.
    patch : side in pixels of the random window of each 48-pixel image that is learnt from.
    lr : Adam's learning rate, falling to 0 as a cosine in either phase; a fifth of it in the adversarial one.
    perceptual, adversarial : weights beside the mean squared error of the pixels, which run from -1 to 1.
    seed : of weights, order and windows.
    """

    blocks: int = 16
    channels: int = 64
    critic: int = 64
    content_steps: int = 20_000
    adversarial_steps: int = 20_000
    batch_size: int = 64
    patch: int = 48
    lr: float = 5e-4
    perceptual: float = 6e-3
    adversarial: float = 1e-3
    seed: int = 0


SETTINGS = {
    "srgan": Settings(),
    "srgan-small": Settings(
        blocks=4, channels=32, critic=16, content_steps=400, adversarial_steps=100, batch_size=16, patch=32
    ),
}
"""Name -> settings: the paper's size, and one that a CPU trains in half a minute."""


def enlarge(faces: Faces, how: str, machine: Machine | None = None) -> Faces:
    """The faces at twice their size.

    Parameters
    ----------
    how : "original" (nothing is done), "bicubic", "srgan" or "srgan-small".  Generators are trained when first
        needed, on the data set's Training images (all images of a data set without splits), and kept in the
        cache, as are the images that they enlarge.

    Returns
    -------
    Faces
        images uint8 (N, 96, 96) of 48-pixel ones, true landmarks moved along; all else is as it was.

    Raises
    ------
    DataError
        `how` is unknown, or the cache cannot be read or written.
    """
    if how not in CHOICES["faces"]:
        raise DataError(f"faces={how!r}: choose from {', '.join(CHOICES['faces'])}")
    if how == "original":
        return faces
    if how == "bicubic":
        return _replaced(faces, bicubic_twice(faces.images))
    path = _path("enlarged", faces, SETTINGS[how], ".npy")
    if path.is_file():
        return _replaced(faces, _load_images(path, faces))
    try_to_write(path)
    machine = machine or this_machine()
    model = generator(faces, how, machine)
    # Each content once: copies stay copies to the last bit.
    _, first, copy_of = np.unique(faces.digests(), return_index=True, return_inverse=True)
    images = enlarge_images(model, faces.images[first], machine, f"{how} on {faces.name}")[copy_of]
    with whole(path) as file:
        np.save(file, images)
    return _replaced(faces, images)


def bicubic_twice(images: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W) -> uint8 (N, 2H, 2W), bicubic interpolation."""
    return np.concatenate([_to_bytes(_bicubic(part)) for part in _batches(images)])


def half(images: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W) -> uint8 (N, H/2, W/2), the mean of 2 x 2 pixels."""
    return np.concatenate([_to_bytes(F.avg_pool2d(part, 2)) for part in _batches(images)])


def enlarge_images(model: nn.Module, images: np.ndarray, machine: Machine, label: str = "") -> np.ndarray:
    """uint8 (N, H, W) -> uint8 (N, 2H, 2W) by a generator."""
    out = []
    with torch.no_grad(), tqdm(total=len(images), desc=label, unit="face", mininterval=2.0) as bar:
        for part in _batches(images):
            part = part.to(machine.device, memory_format=torch.channels_last)
            with machine.autocast():
                out.append(_to_bytes(model(part)))
            bar.update(len(part))
    return np.concatenate(out)


class Generator(nn.Module):
    """SRResNet for a factor of two: grey float (B, 1, H, W) in 0-1 -> (B, 1, 2H, 2W).

    Ledig et al., Fig. 4: a 9 x 9 convolution, residual blocks, a skip over all of them, PixelShuffle, and a 9 x 9
    convolution; the sum with the bicubic enlargement is added here.
    """

    def __init__(self, blocks: int = 16, channels: int = 64):
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(1, channels, 9, padding=4), nn.PReLU())
        self.body = nn.Sequential(
            *[Residual(channels) for _ in range(blocks)], *_normed(channels, channels, stride=1)
        )
        self.up = nn.Sequential(
            nn.Conv2d(channels, 4 * channels, 3, padding=1), nn.PixelShuffle(2), nn.PReLU()
        )
        self.tail = nn.Conv2d(channels, 1, 9, padding=4)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """image float32 (B, 1, H, W) in 0-1 -> float32 (B, 1, 2H, 2W): the bicubic enlargement, and what is added to it."""
        x = self.head(2 * image - 1)
        return _bicubic(image) + self.tail(self.up(x + self.body(x))).float()


class Residual(nn.Module):
    """Convolution, batch normalisation and PReLU, convolution and batch normalisation, beside a skip."""

    def __init__(self, channels: int):
        super().__init__()
        self.layers = nn.Sequential(
            *_normed(channels, channels, 1), nn.PReLU(), *_normed(channels, channels, 1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return x + self.layers(x)


class Discriminator(nn.Module):
    """Eight convolutions, every second with stride 2, then two linear layers (Ledig et al., Fig. 4)."""

    def __init__(self, channels: int = 64):
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(1, channels, 3, padding=1), nn.LeakyReLU(0.2)]
        before = channels
        for number in range(1, 8):
            after = channels * 2 ** (number // 2)
            layers += [*_normed(before, after, stride=1 + number % 2), nn.LeakyReLU(0.2)]
            before = after
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(before, 2 * before), nn.LeakyReLU(0.2), nn.Linear(2 * before, 1)
        )

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """image (B, 1, H, W) from -1 to 1 -> logits (B,) for "real", and the last map of features."""
        features = self.features(image)
        return self.classifier(features.mean((2, 3)))[:, 0].float(), features.float()


def at_hand(faces: Faces, how: str) -> bool:
    """Whether the generator of a data set is trained and in the cache."""
    return _path("generator", faces, SETTINGS[how], ".pt").is_file()


def generator(faces: Faces, how: str, machine: Machine | None = None) -> Generator:
    """The trained generator of a data set, from the cache or trained now; in evaluation mode.

    Parameters
    ----------
    how : a key of `SETTINGS`, such as "srgan-small".

    Raises
    ------
    DataError
        The cache cannot be read or written.
    """
    settings, machine = SETTINGS[how], machine or this_machine()
    model = Generator(settings.blocks, settings.channels)
    path = _path("generator", faces, settings, ".pt")
    if path.is_file():
        try:
            model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        except PermissionError as error:
            raise unreadable(path, error) from None
        except Exception as error:  # torch.load raises whatever the bytes lead it to
            raise DataError(
                f"{path}: not a generator ({first_line(error)}); delete it and run again"
            ) from None
    else:
        try_to_write(path)
        training = faces.where("Training")
        images = faces.images[training] if len(training) else faces.images
        model = train(images, settings, machine, f"{how} for {faces.name}")
        if not all(p.isfinite().all() for p in model.parameters()):
            raise FloatingPointError(
                f"{how} for {faces.name}: the generator's weights are not finite; lower its lr"
            )
        state = {k: v.cpu() for k, v in model.state_dict().items()}
        with whole(path) as file:
            torch.save(state, file)
    return model.to(machine.device, memory_format=torch.channels_last).eval()


def train(images: np.ndarray, settings: Settings, machine: Machine, label: str = "SRGAN") -> Generator:
    """Train a generator to undo the halving of the images.

    Parameters
    ----------
    images : uint8 (N, S, S).
    settings : network, steps and weights of the losses.

    Returns
    -------
    Generator
        The same bits for the same images and settings on the same machine; torch's global generator is left as
        it was.
    """
    torch.backends.cudnn.deterministic = True
    devices = [machine.device] if machine.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(settings.seed)
        model = Generator(settings.blocks, settings.channels)
        critic = Discriminator(settings.critic)
        for network in (model, critic):
            network.to(machine.device, memory_format=torch.channels_last).train()
        data = torch.as_tensor(images, device=machine.device)
        total = settings.content_steps + settings.adversarial_steps
        with tqdm(total=total, desc=label, unit="step", mininterval=2.0) as bar:
            for steps, other in ((settings.content_steps, None), (settings.adversarial_steps, critic)):
                _phase(model, other, data, settings, steps, machine, bar)
    return model.eval()


def _phase(model, critic, data, settings: Settings, steps: int, machine: Machine, bar) -> None:
    """Some steps on the pixels alone, or, with a critic, on all three losses."""
    lr = settings.lr if critic is None else settings.lr / 5
    optimizers = [torch.optim.Adam(m.parameters(), lr) for m in (model, critic) if m is not None]
    schedules = [torch.optim.lr_scheduler.CosineAnnealingLR(o, max(steps, 1)) for o in optimizers]
    for step in range(steps):
        real = _windows(data, settings.batch_size, settings.patch)
        with machine.autocast():
            fake = model(F.avg_pool2d(real, 2))
        real, fake = 2 * real - 1, 2 * fake - 1
        content = F.mse_loss(fake, real)
        loss = content
        if critic is not None:
            with machine.autocast():
                on_real, _ = critic(real)
                on_fake, _ = critic(fake.detach())
            doubt = F.softplus(-on_real).mean() + F.softplus(on_fake).mean()
            _step(optimizers[1], doubt)
            with machine.autocast(), torch.no_grad():
                _, wanted = critic(real)
            with machine.autocast():
                logits, got = critic(fake)
            loss = content + settings.perceptual * F.mse_loss(got, wanted)
            loss = loss + settings.adversarial * F.softplus(-logits).mean()
        _step(optimizers[0], loss)
        for schedule in schedules:
            schedule.step()
        bar.update()
        if step % 50 == 0:
            bar.set_postfix(mse=f"{float(content.detach()):.5f}", refresh=False)


def _step(optimizer, loss: torch.Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def quality(faces: Faces, how: str, machine: Machine | None = None) -> dict[str, np.ndarray]:
    """How near the enlargement of halved PublicTest images comes to the images themselves (24 -> 48 pixels).

    Constant images are left out: they have no structure to restore.

    Parameters
    ----------
    how : "bicubic", or as in `generator`.

    Returns
    -------
    dict
        "PSNR" in dB and "SSIM", float (n,) each, one value an image (torchmetrics).
    """
    from torchmetrics.functional.image import (
        peak_signal_noise_ratio,
        structural_similarity_index_measure,
    )

    images = faces.images[faces.where("PublicTest")]
    images = images[np.ptp(images, axis=(1, 2)) > 0]
    values: dict[str, list[torch.Tensor]] = {"PSNR": [], "SSIM": []}
    pairs = zip(_batches(restore(faces, images, how, machine)), _batches(images), strict=True)
    for restored, truth in pairs:
        common = {"data_range": 1.0, "reduction": "none"}
        values["PSNR"].append(peak_signal_noise_ratio(restored, truth, **common, dim=(1, 2, 3)))
        values["SSIM"].append(structural_similarity_index_measure(restored, truth, **common).view(-1))
    return {name: torch.cat(parts).numpy() for name, parts in values.items()}


def restore(faces: Faces, images: np.ndarray, how: str, machine: Machine | None = None) -> np.ndarray:
    """Images uint8 (n, S, S) halved and enlarged again by "bicubic" or by the data set's generator."""
    if how == "bicubic":
        return bicubic_twice(half(images))
    machine = machine or this_machine()
    return enlarge_images(generator(faces, how, machine), half(images), machine, f"{how}, 24 to 48")


def _normed(before: int, after: int, stride: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(before, after, 3, stride, padding=1, bias=False), nn.BatchNorm2d(after)


def _bicubic(image: torch.Tensor) -> torch.Tensor:
    # antialias chooses Pillow's cubic (a = -0.5) over OpenCV's.
    return F.interpolate(image.float(), scale_factor=2, mode="bicubic", antialias=True)


def _windows(data: torch.Tensor, count: int, side: int) -> torch.Tensor:
    """float32 (count, 1, side, side) in 0-1: random windows of random images, half of them mirrored."""
    rows = torch.randint(len(data), (count,), device=data.device)
    stack = random_flip(random_crop(data[rows][:, None].float() / 255, side), 0.5)
    return stack.contiguous(memory_format=torch.channels_last)


def _batches(images: np.ndarray):
    """uint8 (N, H, W) -> float32 (32, 1, H, W) in 0-1, the last of fewer."""
    for part in torch.as_tensor(images).split(32):
        yield part[:, None].float() / 255


def _to_bytes(image: torch.Tensor) -> np.ndarray:
    """float (B, 1, H, W) in 0-1 -> uint8 (B, H, W)."""
    return (image[:, 0] * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()


def _replaced(faces: Faces, images: np.ndarray) -> Faces:
    truth = None if faces.truth is None else 2 * faces.truth + 0.5  # pixel centres are whole numbers
    return replace(faces, images=images, truth=truth)


def _path(kind: str, faces: Faces, settings: Settings, suffix: str) -> Path:
    key = hashlib.sha256(json.dumps(asdict(settings)).encode()).hexdigest()[:8]
    return cache_dir() / f"{kind}-{faces.name}-{faces.sha256[:12]}-{key}{suffix}"


def _load_images(path: Path, faces: Faces) -> np.ndarray:
    n, height, width = faces.images.shape
    try:
        images = np.load(path, allow_pickle=False)
        if images.shape != (n, 2 * height, 2 * width) or images.dtype != np.uint8:
            raise ValueError(f"{images.dtype} {images.shape}")
    except PermissionError as error:
        raise unreadable(path, error) from None
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: not these faces enlarged ({error}); delete it and run again") from None
    return images
