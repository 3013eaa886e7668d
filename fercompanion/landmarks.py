"""MTCNN face boxes and five facial landmarks: found once per data set, cached by image content and settings."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import tempfile
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.ops import nms

from .data import DataError, Faces, unreadable
from .progress import tqdm
from .whole import DAMAGED, save_arrays

STAGES = ("enlarged", "enlarged, low thresholds", "as is", "median face")
"""Where a face's landmarks come from: the stages are tried in this order until one finds a face."""

MEDIAN = len(STAGES) - 1
GRID = 64
"""Landmarks and boxes are whole multiples of 1/GRID pixel, and cached as such (int16)."""
SHIPPED = Path(__file__).resolve().parents[1] / "results" / "landmarks"


@dataclass(frozen=True)
class Detector:
    """Settings of the detector; a change of any of them makes a new cache.

    Attributes
    ----------
    min_face : smallest face searched for, in pixels of the data set's image (facenet-pytorch's default).
    pad, scale : edge padding in pixels, then enlargement, in all stages but "as is".  FER2013's faces fill the
        frame: as they are, MTCNN misses 20 % of them, and its landmarks, which it rounds on the way, lie twice
        as far from the truth (1.6 against 0.8 pixels on the demo faces).
    thresholds : score thresholds of P-, R- and O-Net (facenet-pytorch's defaults).
    low_thresholds : those of the second stage.
    """

    min_face: int = 20
    pad: int = 12
    scale: int = 4
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7)
    low_thresholds: tuple[float, float, float] = (0.4, 0.5, 0.5)

    @property
    def key(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:8]


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Boxes and landmarks of N faces.

    Attributes
    ----------
    points : float32 (N, 5, 2), x and y in pixels of the 48 x 48 image, in the order of `layouts.LANDMARKS`.
    boxes : float32 (N, 4), x1 y1 x2 y2 in pixels; may reach outside the image.
    stage : uint8 (N,), index into `STAGES`.
    """

    points: np.ndarray
    boxes: np.ndarray
    stage: np.ndarray

    def __len__(self) -> int:
        return len(self.points)

    @property
    def detected(self) -> np.ndarray:
        """bool (N,): MTCNN found a face (False: the median face stands in)."""
        return self.stage != MEDIAN


def cache_dir() -> Path:
    """Folder of the caches: `FERCOMPANION_CACHE`, or fercompanion in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("FERCOMPANION_CACHE") or f"{home}/fercompanion").expanduser()


def try_to_write(path: Path) -> None:
    """Find out now, and not after minutes of work, whether a file of a cache can be kept.

    Raises
    ------
    DataError
        It cannot.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        said = f"it cannot be kept there ({error.strerror or error})"
        raise DataError(f"{path}: {said}; set FERCOMPANION_CACHE to a folder that can be written") from None


def find_landmarks(
    faces: Faces,
    detector: Detector = Detector(),
    batch_size: int = 128,
    cache: str | os.PathLike | None = None,
) -> Landmarks:
    """Boxes and landmarks of all faces; detects only what no cache holds.

    Parameters
    ----------
    faces : data set; its images' content is the cache's key, so order and file names do not matter.
    detector : settings.
    batch_size : images given to MTCNN at once; changes the speed, not the landmarks.
    cache : folder of the cache, default `cache_dir()`.  It is saved every few thousand images, so that an
        interrupted detection goes on where it stopped.

    Returns
    -------
    Landmarks
        One row a face.  Faces missed in every stage carry the median box and points of the detected faces of
        the Training split (of the whole set where there are no splits).

    Raises
    ------
    DataError
        Faces are not in a cache and facenet-pytorch is not installed, or MTCNN found no face at all.
    """
    digests = faces.digests()
    folder = Path(cache) if cache is not None else cache_dir()
    path, known = folder / f"landmarks-{faces.name}-{detector.key}.npz", {}
    # Of joined sets those of each, then those of both.
    for name in dict.fromkeys([*faces.name.split("+"), faces.name]):
        for place in (SHIPPED, folder):
            known.update(_read(place / f"landmarks-{name}-{detector.key}.npz"))
    todo = _first_of_each(digests, known)
    if len(todo):
        try_to_write(path)
        mtcnn = _mtcnn()
        with tqdm(total=len(todo), desc=f"MTCNN on {faces.name}", unit="face", mininterval=1.0) as bar:
            for start in range(0, len(todo), 4096):
                part = todo[start : start + 4096]
                points, boxes, stage = _detect(faces.images[part], mtcnn, detector, batch_size, bar)
                known.update(zip(digests[part].tolist(), zip(points, boxes, stage, strict=True), strict=True))
                _write(path, known)
    rows = [known[d] for d in digests.tolist()]
    points, boxes, stage = (np.array([r[k] for r in rows]) for k in range(3))
    return _fill(points.astype(np.float32), boxes.astype(np.float32), stage.astype(np.uint8), faces)


def _first_of_each(digests: np.ndarray, known: dict) -> np.ndarray:
    """Indices of the images to detect: each content once, unless it is known."""
    first = np.sort(np.unique(digests, return_index=True)[1])
    return np.array([i for i in first if int(digests[i]) not in known], dtype=np.int64)


def _fill(points, boxes, stage, faces: Faces) -> Landmarks:
    """Give the faces that MTCNN missed the median face of Training."""
    missed = stage == MEDIAN
    if missed.any():
        source = ~missed & (faces.split == "Training") if (faces.split == "Training").any() else ~missed
        if not source.any():
            raise DataError(f"{faces.name}: MTCNN found no face in {len(faces)} images: are these faces?")
        points[missed] = np.median(points[source], axis=0)
        boxes[missed] = np.median(boxes[source], axis=0)
    return Landmarks(points, boxes, stage)


# ---------------------------------------------------------------------------------------- cache files
def _read(path: Path) -> dict:
    if not path.is_file():
        return {}
    try:
        with np.load(path, allow_pickle=False) as f:
            unit = np.float32(1 if f["points"].dtype.kind == "f" else GRID)  # older caches hold pixels
            columns = f["points"] / unit, f["boxes"] / unit, f["stage"]
            return dict(zip(f["digest"].tolist(), zip(*columns, strict=True), strict=True))
    except PermissionError as error:
        raise unreadable(path, error) from None
    except DAMAGED as error:
        raise DataError(f"{path}: not a landmark cache ({error}); delete the file and run again") from None


def _write(path: Path, known: dict) -> None:
    digest = np.array(sorted(known), dtype=np.uint64)
    points, boxes, stage = (np.array([known[d][k] for d in digest.tolist()]) for k in range(3))
    points, boxes = (np.round(x * GRID).astype(np.int16) for x in (points, boxes))
    save_arrays(path, digest=digest, points=points, boxes=boxes, stage=stage)


# ---------------------------------------------------------------------------------------- detection
@functools.cache
def _mtcnn():
    """facenet-pytorch's MTCNN with the order-dependent steps of its cascade replaced; loaded once."""
    try:
        with warnings.catch_warnings():  # that there are no widgets for a progress bar that is not shown
            warnings.simplefilter("ignore")
            from facenet_pytorch import MTCNN
            from facenet_pytorch.models.utils import detect_face
    except ImportError:
        raise DataError(
            "facenet-pytorch is not installed, and some faces are in no landmark cache; "
            "run: pip install --no-deps facenet-pytorch==2.6.0"
        ) from None
    detect_face.batched_nms = _nms_per_image
    detect_face.batched_nms_numpy = _nms_min_per_image
    detect_face.fixed_batch_process = _fixed_shape
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return MTCNN(keep_all=True, device=device).eval()


def _fixed_shape(crops, net):
    """Run R- or O-Net on chunks of one fixed shape, so that a crop's score has the same bits in any company."""
    size = 256
    pad = -len(crops) % size
    crops = torch.cat([crops, crops.new_zeros(pad, *crops.shape[1:])])
    out = [net(chunk) for chunk in crops.split(size)]
    return tuple(torch.cat(part)[: len(crops) - pad] for part in zip(*out, strict=True))


def _nms_per_image(boxes, scores, image_ids, threshold):
    """torchvision's nms, one image at a time.

    The library shifts all images' boxes apart by adding offsets, whose float32 rounding depends on how many
    images share the batch.
    """
    keep = [torch.nonzero(image_ids == i)[:, 0] for i in image_ids.unique()]
    keep = [rows[nms(boxes[rows], scores[rows], threshold)] for rows in keep]
    return torch.cat(keep) if keep else torch.zeros(0, dtype=torch.long, device=boxes.device)


def _nms_min_per_image(boxes, scores, image_ids, threshold, method):
    """The last suppression of the cascade (overlap over the smaller box), stable and one image at a time.

    Scores of sure faces saturate at exactly 1.0; the library sorts them with an unstable sort over the whole
    batch, so that the winner among equals depends on the batch.  Here the earlier box wins.
    """
    b, s, ids = boxes.double().cpu().numpy(), scores.cpu().numpy(), image_ids.cpu().numpy()
    area = (b[:, 2] - b[:, 0] + 1) * (b[:, 3] - b[:, 1] + 1)
    keep = []
    for image in np.unique(ids):
        rows = np.flatnonzero(ids == image)
        rows = rows[np.argsort(-s[rows], kind="stable")]
        while len(rows):
            best, rows = rows[0], rows[1:]
            keep.append(best)
            low, high = np.maximum(b[best, :2], b[rows, :2]), np.minimum(b[best, 2:], b[rows, 2:])
            inter = np.prod(np.maximum(0, high - low + 1), axis=1)
            rows = rows[inter / np.minimum(area[best], area[rows]) <= threshold]
    return torch.as_tensor(np.array(keep, dtype=np.int64), device=boxes.device)


def _detect(images: np.ndarray, mtcnn, detector: Detector, batch_size: int, bar) -> tuple:
    """The stages of `STAGES` in turn, each on the faces that the one before missed."""
    n = len(images)
    points, boxes = np.zeros((n, 5, 2), np.float32), np.zeros((n, 4), np.float32)
    stage = np.full(n, MEDIAN, np.uint8)
    todo = np.arange(n)
    plan = (
        (detector.scale, detector.pad, detector.thresholds),
        (detector.scale, detector.pad, detector.low_thresholds),
        (1, 0, detector.thresholds),
    )
    for number, (scale, pad, thresholds) in enumerate(plan):
        mtcnn.thresholds, mtcnn.min_face_size = list(thresholds), detector.min_face * scale
        missed = []
        for rows in np.array_split(todo, max(1, -(-len(todo) // batch_size))):
            found = _detect_batch(images[rows], mtcnn, scale, pad)
            for row, face in zip(rows, found, strict=True):
                if face is None:
                    missed.append(row)
                else:
                    boxes[row], points[row] = face
                    stage[row] = number
            bar.update(sum(face is not None for face in found))
        todo = np.array(missed, dtype=np.int64)
    bar.update(len(todo))
    return points, boxes, stage


def _detect_batch(images: np.ndarray, mtcnn, scale: int, pad: int) -> list:
    """One (box, points) or None per image; coordinates in pixels of the image without padding and scale."""
    if not len(images):
        return []
    prepared = [_enlarge(image, scale, pad) for image in images]
    try:
        found = mtcnn.detect(np.stack(prepared), landmarks=True)
    except (RuntimeError, ValueError, IndexError) as error:
        if of_the_device(error):
            raise
        # the cascade raises when no image of the batch yields a candidate box
        if len(images) == 1:
            return [None]
        half = len(images) // 2
        return _detect_batch(images[:half], mtcnn, scale, pad) + _detect_batch(
            images[half:], mtcnn, scale, pad
        )
    result = []
    for boxes, scores, points in zip(*found, strict=True):
        if boxes is None or not len(boxes):
            result.append(None)
            continue
        boxes, scores = np.asarray(boxes, np.float64), np.asarray(scores, np.float64).round(6)
        size = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        best = np.lexsort((-size.round(3), -scores))[0]  # highest probability, of equals the largest
        result.append(tuple(_to_pixels(v[best], scale, pad) for v in (boxes, points)))
    return result


def of_the_device(error: Exception) -> bool:
    """Whether an error tells of a GPU, its libraries, or a lack of memory, and nothing of faces."""
    words = ("cuda", "cudnn", "cublas", "hip error", "out of memory", "allocat")
    return any(word in str(error).lower() for word in words)


def _to_pixels(xy, scale: int, pad: int) -> np.ndarray:
    """MTCNN's coordinates in the prepared image -> pixels of the original, (0, 0) the top-left pixel's centre.

    MTCNN counts pixels from 1: mirrored and plain images agree on where the eyes are only after subtracting it.
    The result is rounded to 1/`GRID` pixel, far below MTCNN's error and coarse enough to hide the last bits of
    float32 sums.
    """
    pixels = (np.asarray(xy, np.float64) - 1 - (scale - 1) / 2) / scale - pad
    return np.round(pixels * GRID) / GRID


def find_in_photo(photo: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Every face in a photo of any size.

    Parameters
    ----------
    photo : uint8 (H, W, 3).

    Returns
    -------
    list of (box float (4,), points float (5, 2)), in pixels of the photo; empty if there is no face.
    """
    mtcnn, detector = _mtcnn(), Detector()
    mtcnn.thresholds, mtcnn.min_face_size = list(detector.thresholds), detector.min_face
    for pad in (0, max(photo.shape[:2]) // 4):
        prepared = np.pad(photo, ((pad, pad), (pad, pad), (0, 0)), mode="edge")
        try:
            boxes, _, points = mtcnn.detect(prepared[None], landmarks=True)
        except (RuntimeError, ValueError, IndexError) as error:  # no candidate box at all
            if of_the_device(error):
                raise
            continue
        if boxes[0] is not None and len(boxes[0]):
            return [
                (_to_pixels(b, 1, pad), _to_pixels(p, 1, pad))
                for b, p in zip(boxes[0], points[0], strict=True)
            ]
    return []


def _enlarge(image: np.ndarray, scale: int, pad: int) -> np.ndarray:
    """uint8 (48, 48) -> uint8 (S, S, 3), edge-padded, then enlarged by bicubic interpolation."""
    image = np.pad(image, pad, mode="edge")
    size = (image.shape[1] * scale, image.shape[0] * scale)
    image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    return np.repeat(image[:, :, None], 3, axis=2)
