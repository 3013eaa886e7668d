"""Training transforms and test crops: image and mask stay together, and each transform does what it says."""

import pytest
import torch

from fercompanion import augment
from fercompanion.recipes import OURS, PAPER


def pictures(n, channels=1, size=48, seed=0):
    """Random pictures without a black pixel."""
    return 0.1 + 0.9 * torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(seed))


def places(n, size=48):
    """Pictures whose pixels carry their own position: 1 + row * size + column."""
    return (1.0 + torch.arange(size * size)).view(1, 1, size, size).repeat(n, 1, 1, 1)


@pytest.mark.parametrize(
    "transform",
    [
        lambda s: augment.train_transform(s, PAPER),
        lambda s: augment.train_transform(s, OURS),
        lambda s: augment.random_affine(s, 10, 0.1, 2),
        lambda s: augment.random_crop(s, 44),
        lambda s: augment.random_flip(s, 0.5),
        lambda s: augment.black_blocks(s, 3, 5),
        lambda s: augment.centre_view(s, OURS),
        lambda s: augment.ten_views(s, OURS).flatten(0, 1),
    ],
    ids=["PAPER", "OURS", "affine", "crop", "flip", "blocks", "centre", "ten"],
)
def test_image_and_mask_move_together(transform):
    torch.manual_seed(0)
    picture = pictures(16)
    for _ in range(20):
        out = transform(torch.cat([picture, picture], 1))
        assert torch.equal(out[:, 0], out[:, 1])
        assert out.shape[1] == 2 and out.std() > 0.1


@pytest.mark.parametrize("recipe", [PAPER, OURS])
def test_train_transform_follows_the_seed(recipe):
    out = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        out.append(augment.train_transform(pictures(8, 2), recipe))
    assert out[0].shape == (8, 2, 44, 44) and out[0].dtype == torch.float32
    assert torch.equal(out[0], out[1])
    assert not torch.equal(out[0], out[2])


def test_the_papers_transform_step_by_step():
    """Each result is a window of the picture or of its mirror image, with one 3 x 3 square set to 0."""
    torch.manual_seed(1)
    out = augment.train_transform(places(64), PAPER)[:, 0]
    flips = 0
    for picture in out:
        black = picture == 0
        assert black.sum() == 9
        rows, columns = torch.nonzero(black).amin(0), torch.nonzero(black).amax(0)
        assert (columns - rows).tolist() == [2, 2]
        step = torch.where(black[:, 1:] | black[:, :-1], torch.nan, picture[:, 1:] - picture[:, :-1])
        signs = set(step[~step.isnan()].tolist())
        assert signs in ({1.0}, {-1.0})
        flips += signs == {-1.0}
    assert 16 < flips < 48


def test_random_crop_takes_every_window_equally_often():
    torch.manual_seed(0)
    out = augment.random_crop(places(5000), 44)[:, 0]
    first = out[:, 0, 0].long() - 1
    top, left = first // 48, first % 48
    side = torch.arange(44)
    expected = 1 + (top[:, None, None] + side[:, None]) * 48 + left[:, None, None] + side
    assert torch.equal(out, expected.float())
    counts = torch.bincount(top * 5 + left, minlength=25)
    assert len(counts) == 25 and counts.min() > 140 and counts.max() < 260  # 200 +- 4 sigma


def test_random_crop_of_full_size_is_the_picture():
    assert torch.equal(augment.random_crop(pictures(2), 48), pictures(2))


@pytest.mark.parametrize("probability, low, high", [(0.0, 0, 0), (1.0, 2000, 2000), (0.5, 900, 1100)])
def test_random_flip(probability, low, high):
    torch.manual_seed(0)
    picture = places(2000, 8)
    out = augment.random_flip(picture, probability)
    flipped = (out == picture.flip(-1)).flatten(1).all(1)
    kept = (out == picture).flatten(1).all(1)
    assert (flipped ^ kept).all()
    assert low <= flipped.sum() <= high


@pytest.mark.parametrize("count, size", [(0, 3), (1, 1), (1, 3), (2, 3), (4, 8)])
def test_black_blocks(count, size):
    torch.manual_seed(0)
    picture = pictures(200, size=20)
    out = augment.black_blocks(picture, count, size)
    black = (out == 0)[:, 0]
    assert torch.equal(out[:, 0][~black], picture[:, 0][~black])
    area = black.sum((1, 2))
    assert area.max() <= count * size**2 and area.min() >= min(count, 1) * size**2
    assert count * size > 16 or area.max() == count * size**2  # blocks that hardly ever overlap
    # Every black pixel lies in a size x size square that is black throughout.
    whole = torch.nn.functional.max_pool2d(-black[:, None].float(), size, 1) == -1
    covered = (
        torch.nn.functional.max_pool2d(torch.nn.functional.pad(whole.float(), (size - 1,) * 4), size, 1)[:, 0]
        == 1
    )
    assert torch.equal(covered, black)


def test_black_blocks_reach_the_corners_and_differ():
    torch.manual_seed(0)
    black = (augment.black_blocks(pictures(4000, size=12), 1, 3) == 0)[:, 0]
    often = black.sum(0)
    assert often.min() > 0 and often[0, 0] < often[6, 6]
    first = black.flatten(1).float().argmax(1)
    counts = torch.bincount(first // 12 * 10 + first % 12, minlength=100)
    assert len(counts) == 100 and counts.min() > 12 and counts.max() < 75  # 40 +- 5 sigma


def test_views_of_a_test_face_are_its_middle_and_ten_crops():
    """Four corners, the middle, and the mirror images of these five in the same order."""
    face = places(2)
    middle = face[..., 2:46, 2:46]
    assert torch.equal(augment.centre_view(face, OURS), middle)
    corners = [face[..., y : y + 44, x : x + 44] for y in (0, 4) for x in (0, 4)]
    five = torch.stack([*corners, middle])
    views = augment.ten_views(face, OURS)
    assert torch.equal(views[:5], five)
    mirrored = face.flip(-1)
    corners = [mirrored[..., y : y + 44, x : x + 44] for y in (0, 4) for x in (0, 4)]
    assert torch.equal(views[5:], torch.stack([*corners, mirrored[..., 2:46, 2:46]]))


def test_affine_of_zero_is_the_identity():
    torch.testing.assert_close(
        augment.random_affine(pictures(4, 2), 0, 0, 0), pictures(4, 2), rtol=0, atol=1e-5
    )


def blob(x, y, n=400):
    """A soft spot at (x, y), n times."""
    i = torch.arange(48.0)
    spot = torch.exp(-((i[None, :] - x) ** 2 + (i[:, None] - y) ** 2) / 8)
    return spot.repeat(n, 1, 1, 1)


def where(stack):
    """Centre of mass, (n, 2) as x and y, relative to the picture's centre."""
    weight = stack[:, 0] / stack[:, 0].sum((1, 2), keepdim=True)
    i = torch.arange(48.0) - 23.5
    return torch.stack([(weight.sum(1) * i).sum(1), (weight.sum(2) * i).sum(1)], 1)


def test_rotation_turns_about_the_centre_by_at_most_its_angle():
    torch.manual_seed(0)
    xy = where(augment.random_affine(blob(23.5 + 12, 23.5), 10, 0, 0))
    assert (xy.norm(dim=1) - 12).abs().max() < 0.05
    angle = torch.rad2deg(torch.atan2(xy[:, 1], xy[:, 0]))
    assert -10.1 < angle.min() < -9 and 9 < angle.max() < 10.1
    centre = where(augment.random_affine(blob(23.5, 23.5), 10, 0, 0))
    assert centre.abs().max() < 0.01


def test_zoom_scales_about_the_centre_by_at_most_its_fraction():
    torch.manual_seed(0)
    xy = where(augment.random_affine(blob(23.5 + 9, 23.5 - 6), 0, 0.1, 0))
    factor = xy / torch.tensor([9.0, -6.0])
    assert (factor[:, 0] - factor[:, 1]).abs().max() < 0.01
    assert 0.89 < factor.min() < 0.91 and 1.09 < factor.max() < 1.11


def test_shift_moves_by_at_most_its_pixels_in_both_directions():
    torch.manual_seed(0)
    xy = where(augment.random_affine(blob(23.5, 23.5), 0, 0, 2))
    for k in (0, 1):
        assert -2.01 < xy[:, k].min() < -1.9 and 1.9 < xy[:, k].max() < 2.01
    assert abs(torch.corrcoef(xy.T)[0, 1]) < 0.2


def test_affine_repeats_the_edge():
    assert torch.allclose(
        augment.random_affine(torch.full((50, 1, 48, 48), 0.7), 10, 0.1, 2), torch.tensor(0.7), atol=1e-5
    )


def black_boxes(stack):
    """(top, left, height, width, black pixels) of the box around the black pixels of each picture that has any."""
    boxes = []
    for black in (stack == 0).all(1):
        y, x = torch.nonzero(black, as_tuple=True)
        if len(y):
            top, left = int(y.min()), int(x.min())
            boxes.append((top, left, int(y.max()) - top + 1, int(x.max()) - left + 1, len(y)))
    return torch.tensor(boxes)


@pytest.mark.parametrize("size", [48, 44])
def test_occlusion_is_one_rectangle_of_2_to_20_per_cent(size):
    """Kim et al. Sect. 3 with RandomErasing's range of areas; wholly inside the picture, everywhere, of all sizes."""
    torch.manual_seed(0)
    stack = pictures(3000, size=size)
    out = augment.occlude(stack, 1.0)
    top, left, height, width, area = black_boxes(out).T
    assert len(top) == 3000 and (height * width == area).all()
    share = area / size**2
    assert 0.02 <= share.min() < 0.025 and 0.19 < share.max() <= 0.2
    assert abs(share.mean() - 0.11) < 0.005  # uniform
    aspect = height / width
    assert 0.35 < aspect.min() < 0.55 and 1.8 < aspect.max() < 2.8 and abs(aspect.log().mean()) < 0.05
    for start, side in ((top, height), (left, width)):
        assert start.min() == 0 and (start + side).max() == size
        assert abs((start + side / 2).mean() - size / 2) < 0.5
    assert abs(torch.corrcoef(torch.stack([top, left]).float())[0, 1]) < 0.3
    changed = out != stack
    assert (out[changed] == 0).all() and changed.sum() == area.sum()


@pytest.mark.parametrize(("probability", "low", "high"), [(0.0, 0, 0), (0.5, 920, 1080), (1.0, 2000, 2000)])
def test_occlusion_hits_with_its_probability(probability, low, high):
    torch.manual_seed(0)
    boxes = black_boxes(augment.occlude(pictures(2000), probability))
    assert low <= len(boxes) <= high
    if len(boxes):  # whether a picture is hit says nothing about where
        top, left, height, width, area = boxes.T
        assert (left + width).max() == (top + height).max() == 48 and left.min() == top.min() == 0
        assert abs((area / 48**2).mean() - 0.11) < 0.01


def test_occlusion_blacks_out_image_and_mask_alike():
    torch.manual_seed(0)
    image, mask = pictures(200), pictures(200, seed=1)
    out = augment.occlude(torch.cat([image, mask], 1), 0.5)
    assert ((out[:, 0] == 0) == (out[:, 1] == 0)).all() and (out == 0).any()


def test_occlusion_by_a_generator_of_its_own():
    """Test faces are hidden alike for every network, and training's random numbers are left alone."""
    lots = [torch.Generator().manual_seed(0) for _ in range(2)]
    torch.manual_seed(1)
    first = augment.occlude(pictures(20), 1.0, lots[0])
    after = torch.rand(1)
    torch.manual_seed(2)
    assert torch.equal(first, augment.occlude(pictures(20), 1.0, lots[1]))
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(1))
    assert not torch.equal(first, augment.occlude(pictures(20), 1.0, lots[0]))  # it goes on


def test_kims_training_transform_is_occlusion_alone():
    from fercompanion.siblings import KIM

    torch.manual_seed(0)
    stack = pictures(400)
    out = augment.train_transform(stack, KIM)
    assert out.shape == stack.shape and (out[out != stack] == 0).all()
    assert 150 < len(black_boxes(out)) < 250
