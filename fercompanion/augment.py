"""Training transforms and test crops, on whole batches and on their device; image and mask move together.

A batch is a stack float32 (B, C, 48, 48): channel 0 the image in 0-1, channel 1, if any, the key-region mask.
Random numbers come from torch's global generator, which `train.fit` seeds at the start of each epoch.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torchvision.transforms.functional import center_crop, ten_crop


def train_transform(stack: torch.Tensor, recipe) -> torch.Tensor:
    """Random affine on the canvas, crop, flip, black blocks and occlusion: (B, C, 48, 48) -> (B, C, s, s).

    With a recipe's fields this is LKRNet's Sect. 4.2 (crop 44 of 48, flip, 3 x 3 blocks), DNNRL's Sect. 3.1 (face
    enlarged to 96 +- 10 pixels on a canvas of 120, turned by up to 15 degrees, crop 108), Liu et al.'s Sect. 4.2 and
    Kim et al.'s Sect. 3.
    """
    if recipe.rotate or recipe.zoom or recipe.shift:
        stack = random_affine(stack, recipe.rotate, recipe.zoom, recipe.shift, recipe.size, recipe.canvas)
    else:
        stack = place(stack, recipe.size, recipe.canvas)
    stack = random_crop(stack, recipe.crop)
    stack = random_flip(stack, recipe.flip)
    stack = black_blocks(stack, recipe.blocks, recipe.block_size)
    return occlude(stack, recipe.occlusion) if recipe.occlusion else stack


def place(stack: torch.Tensor, size: int, canvas: int) -> torch.Tensor:
    """Enlarge faces bilinearly, in the middle of a black canvas.

    Parameters
    ----------
    stack : float32 (B, C, H, H).
    size, canvas : side of the face and of the picture around it, in pixels; canvas >= size.

    Returns
    -------
    float32 (B, C, canvas, canvas)
    """
    if stack.shape[-1] != size:
        stack = F.interpolate(stack, size=(size, size), mode="bilinear", align_corners=False)
    before = (canvas - size) // 2
    after = canvas - size - before
    return F.pad(stack, (before, after, before, after)) if canvas != size else stack


def centre_view(stack: torch.Tensor, recipe) -> torch.Tensor:
    """What the network sees of a test face: placed on the canvas, cropped in the middle.

    Parameters
    ----------
    stack : float32 (B, C, H, H).
    recipe : gives size, canvas and crop, in pixels.

    Returns
    -------
    float32 (B, C, crop, crop)
    """
    return center_crop(place(stack, recipe.size, recipe.canvas), [recipe.crop])


def ten_views(stack: torch.Tensor, recipe) -> torch.Tensor:
    """Ten crops of the canvas (10, B, C, s, s); where the crop is the whole canvas, five times the face and five its mirror image."""
    return torch.stack(ten_crop(place(stack, recipe.size, recipe.canvas), [recipe.crop, recipe.crop]))


def random_affine(
    stack: torch.Tensor,
    degrees: float,
    zoom: float,
    shift: float,
    size: int | None = None,
    canvas: int | None = None,
) -> torch.Tensor:
    """Rotate by +-`degrees`, scale by 1 +- `zoom`, move by +-`shift` pixels of the input, all uniform.

    Parameters
    ----------
    stack : float32 (B, C, H, H).
    size, canvas : side of the enlarged face and of the picture around it; those of the input if omitted.  A
        larger canvas is black around the face, else the edges are repeated.

    Returns
    -------
    float32 (B, C, canvas, canvas)
    """
    b, _, height, width = stack.shape
    size, canvas = size or width, canvas or size or width
    turn, scale, dx, dy = (2 * torch.rand(b, 4, device=stack.device) - 1).unbind(1)
    angle, scale = turn * math.radians(degrees), (1 + scale * zoom) * (size / canvas)
    cos, sin = angle.cos() / scale, angle.sin() / scale
    theta = torch.stack([cos, -sin, dx * 2 * shift / width, sin, cos, dy * 2 * shift / height], 1)
    grid = F.affine_grid(theta.view(b, 2, 3), [b, 1, canvas, canvas], align_corners=False)
    padding = "border" if canvas == size else "zeros"
    return F.grid_sample(stack, grid, mode="bilinear", padding_mode=padding, align_corners=False)


def random_crop(stack: torch.Tensor, size: int) -> torch.Tensor:
    """One random window an image.

    Parameters
    ----------
    stack : float32 (B, C, H, H).
    size : side of the window in pixels.

    Returns
    -------
    float32 (B, C, size, size)

    Raises
    ------
    ValueError
        The window is larger than the images.
    """
    room = stack.shape[-1] - size
    if room < 0:
        raise ValueError(f"crop={size}: larger than the images of {stack.shape[-1]} pixels")
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
    """Mirror each image with the given probability; float32 (B, C, H, W), as it comes and as it is returned."""
    flip = torch.rand(len(stack), device=stack.device) < probability
    return torch.where(flip[:, None, None, None], stack.flip(-1), stack)


def black_blocks(stack: torch.Tensor, count: int, size: int) -> torch.Tensor:
    """Set random squares of image and mask to zero, at the same places in both (LKRNet's Sect. 4.2: 3 x 3).

    Parameters
    ----------
    stack : float32 (B, C, H, H), returned in that shape.
    count : squares an image; they may overlap.
    size : their side in pixels, at most H.
    """
    side = torch.arange(stack.shape[-1], device=stack.device)
    for _ in range(count):
        corner = torch.randint(0, stack.shape[-1] - size + 1, (2, len(stack), 1), device=stack.device)
        hit = (side >= corner) & (side < corner + size)  # (2, B, S): rows, columns
        stack = stack.masked_fill((hit[0][:, :, None] & hit[1][:, None, :])[:, None], 0.0)
    return stack


def occlude(
    stack: torch.Tensor, probability: float, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Black out one rectangle of 2 to 20 % of the area in each image, with the given probability (Kim et al. Sect. 3).

    Area, aspect ratio (1:2 to 2:1, logarithmic) and place are uniform; image and mask are hit alike.

    Parameters
    ----------
    stack : float32 (B, C, H, W), returned in that shape.
    generator : of the stack's device; torch's global one if omitted.
    """
    b, _, height, width = stack.shape
    lot = torch.rand(b, 5, device=stack.device, generator=generator).T
    area = (0.02 + 0.18 * lot[0]) * height * width
    aspect = torch.exp((2 * lot[1] - 1) * math.log(2))
    # Whole pixels; the width makes up for the height's rounding, so that the area stays within 2 to 20 %.
    tall = (area * aspect).sqrt().round().clamp(1, height)
    wide = (area / tall).round().clamp(1, width)
    wide = torch.where(tall * wide > 0.2 * height * width, wide - 1, wide)
    wide = torch.where(tall * wide < 0.02 * height * width, wide + 1, wide)
    top = (lot[2] * (height - tall + 1)).floor()
    left = (lot[3] * (width - wide + 1)).floor()
    y = torch.arange(height, device=stack.device)
    x = torch.arange(width, device=stack.device)
    rows = (y >= top[:, None]) & (y < (top + tall)[:, None])
    columns = (x >= left[:, None]) & (x < (left + wide)[:, None])
    hit = (rows[:, :, None] & columns[:, None, :]) & (lot[4] < probability)[:, None, None]
    return stack.masked_fill(hit[:, None], 0.0)
