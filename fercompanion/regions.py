"""Key-region masks: LKRNet's Eqs. 1-3, and the down-sampling of Eq. 4."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F


def key_region_mask(landmarks, boxes, size: int, alpha: float = 0.3, chunk: int = 2048):
    """Weights that are 1 on each landmark and fall to 0 at the corners of its key region (Sect. 3.1).

    Parameters
    ----------
    landmarks : (N, 5, 2) array or tensor
        x and y in pixels of the image; the centre of the top-left pixel is (0, 0).
    boxes : (N, 4) array or tensor
        Face boxes x1 y1 x2 y2 in pixels of the image.
    size : side of the square image in pixels.
    alpha : side of a region as a fraction of the box's (Eqs. 1 and 2; the paper's best is 0.3).
    chunk : faces computed at once; bounds the memory.

    Returns
    -------
    float32 (N, size, size), a tensor on the landmarks' device if they are a tensor, otherwise an array
        `1 - d / d_corner` inside each region (Eq. 3), 0 outside all of them.  Regions are cut at the image's
        border; where they overlap, which the paper leaves open, the larger weight counts.

    Raises
    ------
    ValueError
        Shapes do not match, a box has no area, or alpha is not positive.
    """
    is_tensor = torch.is_tensor(landmarks)
    points, boxes = (
        torch.as_tensor(np.asarray(v) if not torch.is_tensor(v) else v).double() for v in (landmarks, boxes)
    )
    if points.ndim != 3 or points.shape[1:] != (5, 2) or boxes.shape != (len(points), 4):
        raise ValueError(
            f"landmarks {tuple(points.shape)} and boxes {tuple(boxes.shape)}: expected (N, 5, 2) and (N, 4)"
        )
    if alpha <= 0:
        raise ValueError(f"alpha={alpha}: expected a positive fraction of the box")
    boxes = boxes.to(points.device)
    side = alpha * (boxes[:, 2:] - boxes[:, :2])  # Eqs. 1, 2: (N, 2) w, h
    if (side <= 0).any():
        raise ValueError(f"box {int((side <= 0).any(1).nonzero()[0])} has no area: expected x1 < x2, y1 < y2")
    pixel = torch.arange(size, dtype=torch.float64, device=points.device)
    mask = torch.empty(len(points), size, size, dtype=torch.float32, device=points.device)
    for rows in torch.arange(len(points)).split(chunk):
        half = side[rows, None] / 2  # (n, 1, 2)
        dx, dy = ((pixel - points[rows, :, k, None]).abs() for k in (0, 1))  # (n, 5, size)
        inside = (dy <= half[..., 1:])[..., :, None] & (dx <= half[..., :1])[..., None, :]
        distance = (dy.square()[..., :, None] + dx.square()[..., None, :]).sqrt()  # (n, 5, size, size)
        corner = half.square().sum(-1).sqrt()[..., None, None]
        weight = torch.where(inside, 1 - distance / corner, 0.0)  # Eq. 3
        mask[rows] = weight.amax(1).clamp_(min=0).float()
    return mask if is_tensor else mask.numpy()


def downsample(mask: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The arrow of Eq. 4: (B, 1, H, W) -> (B, 1, height, width) by area means (assumed)."""
    return F.adaptive_avg_pool2d(mask, (height, width))
