"""Training transforms and test crops, on whole batches and on their device; image and mask move together.

A batch is a stack float32 (B, C, 48, 48): channel 0 the image in 0-1, channel 1, if any, the key-region mask.
Random numbers come from torch's global generator, which `train.fit` seeds at the start of each epoch.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F


def train_transform(stack: torch.Tensor, recipe) -> torch.Tensor:
    """Random affine (ours), crop, flip and black blocks (LKRNet Sect. 4.2): (B, C, 48, 48) -> (B, C, s, s)."""
    if recipe.rotate or recipe.zoom or recipe.shift:
        stack = random_affine(stack, recipe.rotate, recipe.zoom, recipe.shift)
    stack = random_crop(stack, recipe.crop)
    stack = random_flip(stack, recipe.flip)
    return black_blocks(stack, recipe.blocks, recipe.block_size)


def random_affine(stack: torch.Tensor, degrees: float, zoom: float, shift: float) -> torch.Tensor:
    """Rotate by +-`degrees`, scale by 1 +- `zoom`, move by +-`shift` pixels, all uniform; edges are repeated."""
    b, _, height, width = stack.shape
    turn, scale, dx, dy = (2 * torch.rand(b, 4, device=stack.device) - 1).unbind(1)
    angle, scale = turn * math.radians(degrees), 1 + scale * zoom
    cos, sin = angle.cos() / scale, angle.sin() / scale
    theta = torch.stack([cos, -sin, dx * 2 * shift / width, sin, cos, dy * 2 * shift / height], 1)
    grid = F.affine_grid(theta.view(b, 2, 3), [b, 1, height, width], align_corners=False)
    return F.grid_sample(stack, grid, mode="bilinear", padding_mode="border", align_corners=False)


def random_crop(stack: torch.Tensor, size: int) -> torch.Tensor:
    """One random `size` x `size` window an image."""
    room = stack.shape[-1] - size
    if room == 0:
        return stack
    top, left = torch.randint(0, room + 1, (2, len(stack)), device=stack.device)
    return _window(stack, top, left, size)


def _window(stack: torch.Tensor, top: torch.Tensor, left: torch.Tensor, size: int) -> torch.Tensor:
    """Windows at per-image positions: (B, C, H, W) -> (B, C, size, size)."""
    side = torch.arange(size, device=stack.device)
    rows = (top[:, None] + side)[:, None, :, None]
    columns = (left[:, None] + side)[:, None, None, :]
    image = torch.arange(len(stack), device=stack.device)[:, None, None, None]
    channel = torch.arange(stack.shape[1], device=stack.device)[None, :, None, None]
    return stack[image, channel, rows, columns]


def random_flip(stack: torch.Tensor, probability: float) -> torch.Tensor:
    """Mirror each image with the given probability."""
    flip = torch.rand(len(stack), device=stack.device) < probability
    return torch.where(flip[:, None, None, None], stack.flip(-1), stack)


def black_blocks(stack: torch.Tensor, count: int, size: int) -> torch.Tensor:
    """Set `count` random `size` x `size` squares of image and mask to zero."""
    side = torch.arange(stack.shape[-1], device=stack.device)
    for _ in range(count):
        corner = torch.randint(0, stack.shape[-1] - size + 1, (2, len(stack), 1), device=stack.device)
        hit = (side >= corner) & (side < corner + size)  # (2, B, S): rows, columns
        stack = stack.masked_fill((hit[0][:, :, None] & hit[1][:, None, :])[:, None], 0.0)
    return stack


def centre_crop(stack: torch.Tensor, size: int) -> torch.Tensor:
    """(B, C, H, W) -> (B, C, size, size)."""
    start = (stack.shape[-1] - size) // 2
    return stack[..., start : start + size, start : start + size]


def ten_crop(stack: torch.Tensor, size: int) -> torch.Tensor:
    """Corners, centre and their mirror images: (B, C, H, W) -> (10, B, C, size, size).

    The order is torchvision's `ten_crop`: top left, top right, bottom left, bottom right, centre, mirrored.
    """
    five = _five_crop(stack, size)
    return torch.stack(five + _five_crop(stack.flip(-1), size))


def _five_crop(stack: torch.Tensor, size: int) -> list[torch.Tensor]:
    corners = [
        stack[..., top, left]
        for top in (slice(size), slice(-size, None))
        for left in (slice(size), slice(-size, None))
    ]
    return corners + [centre_crop(stack, size)]
