"""Alignment: eyes come to lie at their canonical places, whatever the roll, and the picture moves with them."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import few, true_landmarks

from fercompanion.align import EYES, _complex, _transform, align, canonical_eyes, roll
from fercompanion.landmarks import Landmarks


@pytest.fixture(scope="module")
def faces(demo):
    return few(demo, Training=70)


def dots(points, side=48, sigma=1.2):
    """Pictures of one bright dot each at points (N, 2), uint8 (N, side, side)."""
    y, x = np.mgrid[:side, :side]
    square = (x - points[:, 0, None, None]) ** 2 + (y - points[:, 1, None, None]) ** 2
    return (250 * np.exp(-square / (2 * sigma**2))).round().astype(np.uint8)


def centres(images):
    """Centre of brightness of each picture as x and y, (N, 2)."""
    y, x = np.mgrid[: images.shape[1], : images.shape[2]]
    weight = images / images.sum((1, 2), keepdims=True, dtype=float)
    return np.stack([(weight * x).sum((1, 2)), (weight * y).sum((1, 2))], 1)


def aligned_points(landmarks, size=48):
    """Where the landmarks come to lie in the aligned faces, float (N, 5, 2)."""
    left, turn, goal = _transform(landmarks.points, size)
    points = (_complex(landmarks.points) - left) / turn + goal
    return np.stack([points.real, points.imag], -1)


def well_inside(points, size):
    """Whose dots are not cut by the border, bool (N,)."""
    return ((points > size / 8) & (points < size * 7 / 8 - 1)).all(1)


@pytest.mark.parametrize("size", [48, 40, 96])
def test_each_landmark_moves_where_aligned_points_says(faces, size):
    """Dots drawn at the true landmarks, found again in the aligned pictures; the eyes at their canonical places."""
    marks = true_landmarks(faces)
    expected = aligned_points(marks, size)
    for k in range(5):
        found = centres(align(replace(faces, images=dots(faces.truth[:, k])), marks, size))
        inside = well_inside(expected[:, k], size) & well_inside(faces.truth[:, k], 48)
        assert inside.mean() > 0.4
        assert np.abs(found - expected[:, k])[inside].max() < 0.15 * size / 48
        if k < 2:
            assert inside.all() and np.abs(found - canonical_eyes(size)[k]).max() < 1


def test_roll_is_gone_and_shape_is_kept(faces):
    before, after = faces.truth.astype(float), aligned_points(true_landmarks(faces))
    assert np.abs(roll(before)).max() > 8
    assert np.abs(roll(after)).max() < 1e-9
    for corner in (2, 3, 4):  # a similarity keeps all ratios of distances
        ratios = [
            np.linalg.norm(p[:, corner] - p[:, 0], axis=1) / np.linalg.norm(p[:, 1] - p[:, 0], axis=1)
            for p in (before, after)
        ]
        np.testing.assert_allclose(*ratios, rtol=1e-9)
    assert (
        after[:, 3:, 1] > after[:, :2, 1].max(1, keepdims=True)
    ).all()  # mouths stay below: nothing is mirrored


@pytest.mark.parametrize("degrees", [-25, 10, 40])
def test_turning_the_landmarks_turns_the_picture_back(faces, degrees):
    marks = true_landmarks(faces)
    angle, middle = np.radians(degrees), faces.truth.mean(1, keepdims=True)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    turned = ((faces.truth - middle) @ turn + middle).astype(np.float32)
    after = align(replace(faces, images=dots(turned[:, 4])), replace(marks, points=turned))
    expected = aligned_points(marks)[:, 4]
    inside = well_inside(expected, 48) & well_inside(turned[:, 4], 48)
    assert inside.mean() > 0.4 and np.abs(centres(after) - expected)[inside].max() < 0.15


def test_faces_whose_eyes_are_in_place_stay_as_they_are(faces):
    points = np.zeros((len(faces), 5, 2), np.float32)
    points[:, :2] = EYES
    marks = Landmarks(points, np.zeros((len(faces), 4)), np.zeros(len(faces), np.uint8))
    assert np.array_equal(align(faces, marks), faces.images)


def test_reduction_is_by_area(faces):
    """Faces of three times the size, aligned to 48, are what area reduction gives, and not every third pixel."""
    points = np.zeros((len(faces), 5, 2), np.float32)
    points[:, :2] = canonical_eyes(144)
    marks = Landmarks(points, np.zeros((len(faces), 4)), np.zeros(len(faces), np.uint8))
    noise = np.random.default_rng(0).integers(0, 256, (len(faces), 144, 144), np.uint8)
    area = noise.reshape(len(faces), 48, 3, 48, 3).mean((2, 4))
    got = align(replace(faces, images=noise), marks)
    assert got.dtype == np.uint8 and np.abs(got - area).max() <= 0.51


def test_aligned_faces_resemble_each_other_more(demo):
    """Around the eyes the pictures of different people vary less than before."""
    some = few(demo, Training=210)
    rows = slice(14, 23)
    before, after = (
        images[:, rows, 8:40].std(0).mean() for images in (some.images, align(some, true_landmarks(some)))
    )
    assert after < before


def test_no_faces(faces):
    none = Landmarks(np.zeros((0, 5, 2)), np.zeros((0, 4)), np.zeros(0, np.uint8))
    assert align(faces.subset([]), none).shape == (0, 48, 48)


def test_a_face_does_not_depend_on_its_company(faces):
    """Of one whose eyes lie far apart each pixel is a mean over more samples; its neighbours' are not."""
    marks = true_landmarks(faces)
    points = marks.points.copy()
    points[0] = points[0].mean(0) + 2.2 * (points[0] - points[0].mean(0))
    wide = replace(marks, points=points)
    alone = align(
        faces.subset(np.arange(1, len(faces))),
        replace(marks, points=points[1:], boxes=marks.boxes[1:], stage=marks.stage[1:]),
    )
    assert np.array_equal(align(faces, wide)[1:], alone)
