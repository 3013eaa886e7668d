"""Key-region masks against a loop over pixels, and what the choice of the masked map means."""

import math

import numpy as np
import pytest
import torch

from fercompanion.models import build_model
from fercompanion.regions import downsample, key_region_mask

FAR = (-500.0, -500.0)


def naive(points, box, size, alpha):
    """Eqs. 1-3 pixel by pixel in double precision; the larger weight where regions overlap."""
    w, h = alpha * (box[2] - box[0]), alpha * (box[3] - box[1])
    mask = np.zeros((size, size))
    for j in range(size):
        for i in range(size):
            for x, y in points:
                if abs(i - x) <= w / 2 and abs(j - y) <= h / 2:
                    weight = 1 - math.hypot(i - x, j - y) / math.hypot(w / 2, h / 2)
                    mask[j, i] = max(mask[j, i], weight)
    return mask


def random_faces(n, seed=0, size=48):
    """Landmarks anywhere, even outside, and boxes of any shape."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-4, size + 4, (n, 5, 2))
    low = rng.uniform(-5, 10, (n, 2))
    return points, np.concatenate([low, low + rng.uniform(15, 50, (n, 2))], 1)


def alone(x, y):
    """One landmark in the picture, the other four far outside."""
    return np.array([[(x, y), FAR, FAR, FAR, FAR]])


@pytest.mark.parametrize("size, alpha", [(48, 0.3), (44, 0.3), (48, 0.55)])
def test_equals_the_loop_over_pixels(size, alpha):
    points, boxes = random_faces(5, size=size)
    expected = np.stack([naive(p, b, size, alpha) for p, b in zip(points, boxes, strict=True)])
    np.testing.assert_allclose(key_region_mask(points, boxes, size, alpha), expected, rtol=0, atol=1e-6)


def test_one_region_in_full():
    """A box of 20 x 40 has regions of 6 x 12: 1 at the landmark, 0 at the corners and beyond the edges."""
    mask = key_region_mask(alone(20, 24), np.array([[10, 4, 30, 44.0]]), 48, 0.3)[0]
    assert mask[24, 20] == 1 == mask.max()
    for y in (18, 30):
        assert mask[y, 17] == mask[y, 23] == 0  # the corners
        assert mask[y, 20] == pytest.approx(1 - 6 / math.hypot(3, 6))  # the middles of top and bottom edge
    assert mask[24, 17] == mask[24, 23] == pytest.approx(1 - 3 / math.hypot(3, 6))
    rows, columns = np.nonzero(mask)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (18, 30, 17, 23)
    assert (mask > 0).sum() == 7 * 13 - 4


@pytest.mark.parametrize("x, y", [(0, 0), (47, 47), (-2, 30), (30, 49), (-1, 48)])
def test_regions_are_cut_at_the_border(x, y):
    """What is visible is the same as in a larger picture."""
    box, margin = np.array([[0, 0, 40, 40.0]]), 20
    cut = key_region_mask(alone(x, y), box, 48)[0]
    whole = key_region_mask(alone(x + margin, y + margin), box, 48 + 2 * margin)[0]
    np.testing.assert_array_equal(cut, whole[margin:-margin, margin:-margin])
    assert (cut > 0).sum() < (whole > 0).sum() and cut.any()


def test_a_landmark_far_outside_leaves_no_trace():
    assert not key_region_mask(alone(-30, 20), np.array([[0, 0, 40, 40.0]]), 48).any()


def test_overlap_is_the_maximum():
    rng = np.random.default_rng(3)
    points, box = rng.uniform(16, 30, (1, 5, 2)), np.array([[2, 2, 46, 46.0]])
    single = [key_region_mask(alone(*p), box, 48)[0] for p in points[0]]
    assert (np.sum([m > 0 for m in single], 0) > 1).any()
    np.testing.assert_array_equal(key_region_mask(points, box, 48)[0], np.max(single, 0))


def test_arrays_give_arrays_and_tensors_tensors():
    points, boxes = (v.astype(np.float32) for v in random_faces(3))
    array = key_region_mask(points, boxes, 48)
    tensor = key_region_mask(torch.as_tensor(points), torch.as_tensor(boxes), 48)
    assert isinstance(array, np.ndarray) and array.dtype == np.float32 and array.shape == (3, 48, 48)
    assert isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float32
    np.testing.assert_array_equal(tensor.numpy(), array)


@pytest.mark.parametrize("chunk", [1, 2, 7])
def test_chunks_give_the_same_bits(chunk):
    points, boxes = random_faces(7, seed=1)
    np.testing.assert_array_equal(
        key_region_mask(points, boxes, 48, chunk=chunk), key_region_mask(points, boxes, 48)
    )


@pytest.mark.parametrize(
    "points, boxes, what",
    [
        (np.zeros((5, 2)), np.ones((1, 4)), "expected"),
        (np.zeros((2, 4, 2)), np.ones((2, 4)), "expected"),
        (np.zeros((2, 5, 2)), np.ones((3, 4)), "expected"),
        (np.zeros((2, 5, 2)), np.ones((2, 5)), "expected"),
        (np.zeros((2, 5, 2)), np.array([[0, 0, 9, 9], [5, 0, 5, 9.0]]), "box 1 "),
        (np.zeros((1, 5, 2)), np.array([[0, 9, 9, 0.0]]), "box 0 "),
    ],
)
def test_errors(points, boxes, what):
    with pytest.raises(ValueError, match=what):
        key_region_mask(points, boxes, 48)


def test_flipping_the_mask_is_flipping_the_landmarks():
    points, boxes = random_faces(4, seed=2)
    mirrored = points.copy()
    mirrored[..., 0] = 47 - points[..., 0]
    flipped_boxes = np.stack([47 - boxes[:, 2], boxes[:, 1], 47 - boxes[:, 0], boxes[:, 3]], 1)
    np.testing.assert_allclose(
        key_region_mask(points, boxes, 48)[..., ::-1],
        key_region_mask(mirrored, flipped_boxes, 48),
        rtol=0,
        atol=1e-6,
    )


@pytest.mark.parametrize("left, top", [(0, 0), (4, 0), (1, 3), (4, 4)])
def test_cropping_the_mask_is_shifting_the_landmarks(left, top):
    points, boxes = random_faces(4, seed=4)
    shift = np.array([left, top])
    np.testing.assert_allclose(
        key_region_mask(points, boxes, 48)[:, top : top + 44, left : left + 44],
        key_region_mask(points - shift, boxes - np.tile(shift, 2), 44),
        rtol=0,
        atol=1e-6,
    )


@pytest.mark.parametrize("size, small", [(44, 1), (44, 2), (44, 5), (44, 11), (48, 3), (48, 6), (48, 12)])
def test_downsample_is_the_area_mean(size, small):
    """A cell is the mean of all pixels it touches (cells overlap where 44 is not a multiple)."""
    mask = torch.rand(3, 1, size, size, generator=torch.Generator().manual_seed(0))
    edges = [(k * size // small, -(-(k + 1) * size // small)) for k in range(small)]
    expected = [[mask[:, 0, a:b, c:d].double().mean((1, 2)) for c, d in edges] for a, b in edges]
    expected = torch.stack([torch.stack(row, -1) for row in expected], -2)
    got = downsample(mask, small, small)
    assert got.shape == (3, 1, small, small)
    torch.testing.assert_close(got[:, 0].double(), expected, rtol=0, atol=1e-6)


def maps_of(mask_at, image, mask):
    """p and p' of Eq. 4: what leaves the shared layers, and what the local branch is given."""
    torch.manual_seed(0)
    model = build_model("lkrnet", width=0.0625, mask_at=mask_at).eval()
    seen = {}
    for branch, tail in model.tails.items():
        tail.register_forward_pre_hook(lambda _, given, branch=branch: seen.update({branch: given[0]}))
    with torch.no_grad():
        model(image, mask)
    return seen["global"], seen["local"]


@pytest.fixture
def two_pictures():
    """Random pictures with the masks of random faces."""
    points, boxes = random_faces(2, seed=5, size=44)
    mask = torch.as_tensor(key_region_mask(points, boxes, 44))[:, None]
    return torch.rand(2, 1, 44, 44, generator=torch.Generator().manual_seed(1)), mask


def test_literal_reading_leaves_one_number_a_face(two_pictures):
    """On the final 1 x 1 map Eq. 4 is p' = s p: the regions' places are lost, their mean weight s acts."""
    image, mask = two_pictures
    p, masked = maps_of("pool5", image, mask)
    assert p.shape == (2, 32, 1, 1)
    s = mask.mean((1, 2, 3))
    assert s[0] != s[1]
    torch.testing.assert_close(masked, s[:, None, None, None] * p)
    shuffled = mask.flatten(1)[:, torch.randperm(44 * 44)].view_as(mask)
    torch.testing.assert_close(maps_of("pool5", image, shuffled)[1], masked)


def test_conv5_4_keeps_quadrants(two_pictures):
    """On 44 x 44 crops the map before the last pool is 2 x 2, so the mask can still tell quadrants apart."""
    image, mask = two_pictures
    p, masked = maps_of("conv5_4", image, mask)
    assert p.shape == (2, 32, 2, 2)
    weight = mask.view(2, 1, 2, 22, 2, 22).mean((3, 5))
    torch.testing.assert_close(masked, weight * p)
    assert (weight.flatten(1).amax(1) > 1.1 * weight.flatten(1).amin(1)).all()
