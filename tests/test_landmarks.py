"""Landmarks by MTCNN: the same in any company and order, near the truth, found once and then cached."""

import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import few
from PIL import Image
from torchvision.ops import batched_nms

from fercompanion import landmarks
from fercompanion.data import DataError
from fercompanion.landmarks import MEDIAN, STAGES, Detector, cache_dir, find_landmarks

MIRROR = [1, 0, 2, 4, 3]  # left and right eye, and mouth corner, change places


@pytest.fixture(autouse=True)
def nothing_shipped(monkeypatch, tmp_path):
    monkeypatch.setattr(landmarks, "SHIPPED", tmp_path / "shipped")


@pytest.fixture(scope="module")
def faces(demo):
    return few(demo, Training=12, PublicTest=6, PrivateTest=6)


@pytest.fixture(scope="module")
def found(faces, tmp_path_factory):
    """Landmarks of 24 faces given to MTCNN at once, and the folder of their cache."""
    pytest.importorskip("facenet_pytorch")
    folder = tmp_path_factory.mktemp("found")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(landmarks, "SHIPPED", folder / "none")
        return find_landmarks(faces, batch_size=24, cache=folder), folder


@pytest.fixture
def cached(found, tmp_path):
    """The same landmarks, in a cache of the test's own."""
    shutil.copytree(found[1], tmp_path / "own")
    return found[0], tmp_path / "own"


@pytest.fixture
def no_detector(monkeypatch):
    def fail():
        raise AssertionError("the detector ran")

    monkeypatch.setattr(landmarks, "_mtcnn", fail)


def assert_same(marks, expected, rows=slice(None)):
    for name in ("points", "boxes", "stage"):
        np.testing.assert_array_equal(getattr(marks, name), getattr(expected, name)[rows])


def grey(faces, n=1, split="Training"):
    """Pictures of one grey level, in which there is no face."""
    some = faces.subset(np.zeros(n, np.int64))
    images = np.full((n, 48, 48), 128, np.uint8) + np.arange(n, dtype=np.uint8)[:, None, None]
    return replace(some, images=images, split=np.full(n, split))


def together(*sets):
    """Several sets as one."""
    columns = {name: np.concatenate([getattr(s, name) for s in sets]) for name, _ in sets[0]._columns()}
    return replace(sets[0], **columns)


# --- detection ------------------------------------------------------------------------------------


def test_shapes_and_types(found, faces):
    marks, _ = found
    assert len(marks) == len(faces) == 24
    assert marks.points.shape == (24, 5, 2) and marks.points.dtype == np.float32
    assert marks.boxes.shape == (24, 4) and marks.boxes.dtype == np.float32
    assert marks.stage.shape == (24,) and marks.stage.dtype == np.uint8
    assert (marks.boxes[:, 2:] > marks.boxes[:, :2]).all()
    assert marks.detected.all()


def test_points_are_near_the_truth(found, faces):
    """In the first stage, on average and in every direction; in the documented order."""
    marks, _ = found
    first = marks.stage == 0
    assert first.mean() > 0.8
    error = marks.points[first] - faces.truth[first]
    distance = np.linalg.norm(error, axis=-1)
    assert distance.mean() < 1.2 and distance.mean(0).max() < 1.8
    assert np.abs(error.mean((0, 1))).max() < 0.5
    left_eye, right_eye, nose, left_mouth, right_mouth = marks.points[first].transpose(1, 0, 2)
    assert (left_eye[:, 0] < right_eye[:, 0]).all() and (left_mouth[:, 0] < right_mouth[:, 0]).all()
    assert (left_eye[:, 1] < nose[:, 1]).all() and (nose[:, 1] < left_mouth[:, 1]).all()


@pytest.mark.parametrize("n, batch_size", [(24, 5), (4, 1), (24, 24)])
def test_neither_batch_nor_order_changes_a_bit(found, faces, tmp_path, n, batch_size):
    rows = np.random.default_rng(batch_size).permutation(24)[:n]
    assert_same(find_landmarks(faces.subset(rows), batch_size=batch_size, cache=tmp_path), found[0], rows)


def crowded_boxes(images=5, n=40, seed=0):
    """Overlapping boxes of several images, with scores of which many are equal, and the images' numbers."""
    g = torch.Generator().manual_seed(seed)
    corner = 200 * torch.rand(images * n, 2, generator=g)
    boxes = torch.cat([corner, corner + 40 + 60 * torch.rand(images * n, 2, generator=g)], 1)
    scores = (0.9 + 0.2 * torch.rand(images * n, generator=g)).clamp(max=1)
    return boxes, scores, torch.arange(images * n) % images


@pytest.mark.parametrize(
    "suppress",
    [
        lambda b, s, i: landmarks._nms_per_image(b, s, i, 0.5),
        lambda b, s, i: landmarks._nms_min_per_image(b, s, i, 0.5, "Min"),
    ],
    ids=["union", "smaller box"],
)
def test_suppression_in_one_image_does_not_depend_on_the_others(suppress):
    """Not even among boxes of the same score."""
    boxes, scores, image = crowded_boxes()
    together = suppress(boxes, scores, image)
    assert (scores == 1).sum() > 50 and len(together) < len(boxes)
    for k in range(5):
        rows = torch.nonzero(image == k)[:, 0]
        alone = rows[suppress(boxes[rows], scores[rows], torch.zeros(len(rows)))]
        assert torch.equal(together[image[together] == k], alone)
    assert len(suppress(boxes[:0], scores[:0], image[:0])) == 0


def test_suppression_is_the_librarys_where_scores_differ():
    facenet = pytest.importorskip("facenet_pytorch.models.utils.detect_face")
    boxes, _, image = crowded_boxes(seed=1)
    scores = torch.rand(len(boxes), generator=torch.Generator().manual_seed(2))
    ours = landmarks._nms_per_image(boxes, scores, image, 0.5)
    assert sorted(ours.tolist()) == sorted(batched_nms(boxes, scores, image, 0.5).tolist())
    for k in range(5):
        own = image == k
        ours = landmarks._nms_min_per_image(boxes[own], scores[own], torch.zeros(40), 0.6, "Min")
        theirs = facenet.nms_numpy(boxes[own].numpy(), scores[own].numpy(), 0.6, "Min")
        assert ours.tolist() == theirs.tolist()


@pytest.mark.parametrize("n", [1, 7, 255, 256, 300, 512])
def test_networks_are_run_on_one_shape(n):
    """Whatever the number of crops; what fills up the last chunk does not come out."""
    shapes = []

    def net(crops):
        shapes.append(tuple(crops.shape))
        return crops.sum((1, 2, 3)), crops[:, 0, 0]

    crops = torch.rand(n, 3, 4, 4)
    total, row = landmarks._fixed_shape(crops, net)
    assert set(shapes) == {(256, 3, 4, 4)} and len(shapes) == -(-n // 256)
    torch.testing.assert_close(total, crops.sum((1, 2, 3)))
    assert torch.equal(row, crops[:, 0, 0])


def test_the_librarys_steps_are_replaced():
    """Without which a face's landmarks now and then depend on its neighbours in the batch."""
    facenet = pytest.importorskip("facenet_pytorch.models.utils.detect_face")
    landmarks._mtcnn()
    assert facenet.batched_nms is landmarks._nms_per_image
    assert facenet.batched_nms_numpy is landmarks._nms_min_per_image
    assert facenet.fixed_batch_process is landmarks._fixed_shape


def test_mirrored_faces_have_mirrored_landmarks(found, faces, tmp_path):
    marks, _ = found
    mirrored = find_landmarks(replace(faces, images=faces.images[:, :, ::-1].copy()), cache=tmp_path)
    back = mirrored.points[:, MIRROR]
    back[..., 0] = 47 - back[..., 0]
    both = (marks.stage == 0) & (mirrored.stage == 0)
    assert both.mean() > 0.8
    difference = back[both] - marks.points[both]
    assert np.linalg.norm(difference, axis=-1).mean() < 0.5
    assert np.abs(difference.mean((0, 1))).max() < 0.2  # no shift to one side


@pytest.mark.parametrize("scale, pad", [(1, 0), (4, 12), (3, 5)])
def test_coordinates_return_from_the_enlarged_picture(scale, pad):
    """A bright spot is where it was, after enlarging and MTCNN's counting from 1."""
    i = np.arange(48)
    spot = 250 * np.exp(-((i[None] - 30) ** 2 + (i[:, None] - 17) ** 2) / 8)
    large = landmarks._enlarge(spot.astype(np.uint8), scale, pad)
    side = (48 + 2 * pad) * scale
    assert large.shape == (side, side, 3) and large.dtype == np.uint8
    weight, j = large[..., 0] / large[..., 0].sum(dtype=float), np.arange(side)
    centre = np.array([(weight.sum(0) * j).sum(), (weight.sum(1) * j).sum()]) + 1
    np.testing.assert_allclose(landmarks._to_pixels(centre, scale, pad), [30, 17], atol=0.05)


def test_enlarging_repeats_the_edge():
    image = np.arange(48, dtype=np.uint8)[:, None].repeat(48, 1)
    large = landmarks._enlarge(image, 2, 6)
    expected = np.pad(image, 6, mode="edge")
    np.testing.assert_array_equal(large[..., 1], np.asarray(Image.fromarray(expected).resize((120, 120), 3)))


def test_a_picture_without_a_face_gets_the_median_face_of_training(cached, faces):
    """Not of the test faces; alone in its batch or not, it is marked as not detected."""
    marks, folder = cached
    both = together(grey(faces), faces, grey(faces, 2, "PrivateTest").subset([1]))
    result = find_landmarks(both, cache=folder)
    training = faces.split == "Training"
    for k in (0, -1):
        assert result.stage[k] == MEDIAN == STAGES.index("median face") and not result.detected[k]
        np.testing.assert_array_equal(result.points[k], np.median(marks.points[training], axis=0))
        np.testing.assert_array_equal(result.boxes[k], np.median(marks.boxes[training], axis=0))
    assert not np.array_equal(result.points[0], np.median(marks.points, axis=0))
    assert_same(
        replace(result, points=result.points[1:-1], boxes=result.boxes[1:-1], stage=result.stage[1:-1]), marks
    )


def test_without_splits_the_median_is_over_all(cached, faces):
    marks, folder = cached
    both = together(faces, grey(faces))
    result = find_landmarks(replace(both, split=np.full(25, "")), cache=folder)
    np.testing.assert_array_equal(result.points[-1], np.median(marks.points, axis=0))


def test_no_face_at_all_is_an_error(faces, tmp_path):
    pytest.importorskip("facenet_pytorch")
    with pytest.raises(DataError, match="no face in 2 images"):
        find_landmarks(grey(faces, 2), cache=tmp_path)


# --- the cache ------------------------------------------------------------------------------------


def test_the_second_call_detects_nothing(cached, faces, no_detector):
    marks, folder = cached
    assert_same(find_landmarks(faces, cache=folder), marks)


def test_the_cache_knows_faces_by_content(cached, faces, no_detector):
    """In another order, twice, or under other names, splits and labels."""
    marks, folder = cached
    rows = np.random.default_rng(0).permutation(24)
    rows = np.concatenate([rows, rows[:5]])
    other = faces.subset(rows)
    other = replace(other, source=np.arange(29).astype(str), labels=other.labels * 0, split=np.full(29, ""))
    assert_same(find_landmarks(other, cache=folder), marks, rows)


def test_a_cache_made_in_another_order_is_the_same(found, faces, tmp_path, monkeypatch):
    """Its file, too: the faces stand in it in the order of their digests."""
    monkeypatch.setenv("FERCOMPANION_CACHE", str(tmp_path / "default"))
    assert cache_dir() == tmp_path / "default"
    assert_same(find_landmarks(faces.subset(np.arange(24)[::-1])), found[0], slice(None, None, -1))
    (one,), (two,) = found[1].iterdir(), cache_dir().iterdir()
    assert one.name == two.name == f"landmarks-demo-{Detector().key}.npz"
    with np.load(one) as a, np.load(two) as b:
        assert set(a) == set(b) == {"digest", "points", "boxes", "stage"}
        assert all(np.array_equal(a[k], b[k]) for k in a)


def test_only_new_faces_are_detected_each_content_once(cached, faces, monkeypatch):
    marks, folder = cached
    seen = []
    detect = landmarks._detect
    monkeypatch.setattr(
        landmarks, "_detect", lambda images, *rest: seen.append(len(images)) or detect(images, *rest)
    )
    new = grey(faces)
    both = together(faces, new, new)
    find_landmarks(both, cache=folder)
    find_landmarks(both, cache=folder)
    assert seen == [1]


def test_shipped_landmarks_are_used_and_left_alone(cached, faces, tmp_path, monkeypatch, no_detector):
    marks, folder = cached
    monkeypatch.setattr(landmarks, "SHIPPED", folder)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert_same(find_landmarks(faces, cache=tmp_path / "empty"), marks)
    assert not (tmp_path / "empty").exists()
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_joined_sets_find_the_landmarks_of_either(cached, faces, no_detector, tmp_path):
    """Each set's own cache lies there: nothing is detected again, and nothing is written."""
    marks, folder = cached
    both = replace(faces, name=f"{faces.name}+other")
    found = find_landmarks(both, cache=folder)
    assert_same(found, marks)
    assert not list(folder.glob("*+*"))
    (own,) = folder.glob("landmarks-*.npz")
    (tmp_path / "joined").mkdir()
    shutil.copy(own, tmp_path / "joined" / own.name.replace(faces.name, both.name, 1))
    assert_same(find_landmarks(both, cache=tmp_path / "joined"), marks)


def test_other_settings_have_another_cache(cached, faces, no_detector):
    keys = {
        d.key
        for d in (
            Detector(),
            Detector(pad=8),
            Detector(scale=3),
            Detector(min_face=24),
            Detector(thresholds=(0.5, 0.7, 0.7)),
            Detector(low_thresholds=(0.3, 0.5, 0.5)),
        )
    }
    assert len(keys) == 6
    with pytest.raises(AssertionError, match="the detector ran"):
        find_landmarks(faces, Detector(pad=8), cache=cached[1])


def test_without_facenet_the_error_says_how_to_get_it(faces, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "facenet_pytorch", None)
    landmarks._mtcnn.cache_clear()
    with pytest.raises(DataError, match="pip install --no-deps facenet-pytorch==") as error:
        find_landmarks(faces, cache=tmp_path)
    assert "\n" not in str(error.value)


def test_without_facenet_a_complete_cache_is_enough(cached, faces, monkeypatch):
    marks, folder = cached
    monkeypatch.setitem(sys.modules, "facenet_pytorch", None)
    landmarks._mtcnn.cache_clear()
    assert_same(find_landmarks(faces, cache=folder), marks)


@pytest.mark.parametrize(
    "damage",
    [
        lambda good: b"",
        lambda good: b"not a cache at all",
        lambda good: good[: len(good) // 2],
        lambda good: good[:-20],
        lambda good: good[:100] + bytes([good[100] ^ 255]) + good[101:],
        lambda good: good[:250] + bytes([good[250] ^ 255]) + good[251:],
    ],
    ids=["empty", "text", "half", "end lost", "flipped byte in digests", "flipped byte in points"],
)
def test_a_damaged_cache_is_named_in_one_line(cached, faces, damage, no_detector):
    (file,) = cached[1].iterdir()
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(DataError) as error:
        find_landmarks(faces, cache=cached[1])
    assert str(file) in str(error.value) and "delete" in str(error.value) and "\n" not in str(error.value)


def test_a_cache_that_may_not_be_read_is_not_damaged(cached, faces, no_detector, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(np, "load", refuse)
    with pytest.raises(DataError, match="cannot be read .Permission denied.; look at its permissions"):
        find_landmarks(faces, cache=cached[1])


def test_a_file_of_other_arrays_is_no_cache(cached, faces, no_detector):
    (file,) = cached[1].iterdir()
    np.savez(file, points=np.zeros(3))
    with pytest.raises(DataError, match="not a landmark cache"):
        find_landmarks(faces, cache=cached[1])


def test_a_cache_of_pixels_is_read_as_one_of_grid_steps(cached, faces, no_detector):
    """Both are exact: landmarks are multiples of 1/64 pixel."""
    (file,) = cached[1].iterdir()
    marks = find_landmarks(faces, cache=cached[1])
    with np.load(file) as f:
        assert f["points"].dtype == f["boxes"].dtype == np.int16
        pixels = {k: f[k] / np.float32(64) for k in ("points", "boxes")}
        np.savez(file, digest=f["digest"], stage=f["stage"], **pixels)
    again = find_landmarks(faces, cache=cached[1])
    np.testing.assert_array_equal(again.points, marks.points)
    np.testing.assert_array_equal(again.boxes, marks.boxes)
    assert again.points.dtype == marks.points.dtype == np.float32


@pytest.mark.parametrize(
    "fault", ["CUDA error: unspecified launch failure", "DefaultCPUAllocator: can't allocate memory"]
)
@pytest.mark.parametrize(
    "call", [lambda m: landmarks._detect_batch(np.zeros((4, 48, 48), np.uint8), m, 1, 0), None]
)
def test_a_fault_of_the_machine_is_no_face_that_is_missing(monkeypatch, call, fault):
    """Else the median face would stand for every face, and be kept."""

    class Broken:
        def detect(self, *_, **__):
            raise RuntimeError(fault)

    monkeypatch.setattr(landmarks, "_mtcnn", Broken)
    with pytest.raises(RuntimeError, match="launch failure|allocate"):
        call(Broken()) if call else landmarks.find_in_photo(np.zeros((60, 60, 3), np.uint8))
