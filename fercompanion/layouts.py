"""Readers for the forms in which FER2013, CK+ and SFEW 2.0 circulate, and for the embedded demo sheets.

Every reader returns a plain dict of arrays (images, labels, split, subject, sequence, source), a
sentence that names the layout it found, and for the demo the true landmarks; `fercompanion.data`
makes a `Faces` of it.  Readers only read.  Whatever is wrong with a file is raised as a one-line
`DataError` that names the file, the place in it and what to do about it.
"""

from __future__ import annotations

import csv
import os
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from .progress import tqdm

SPLITS = ("Training", "PublicTest", "PrivateTest")
SIDE = 48
MAX_PIXELS = 4_000_000
SHEET_COLUMNS = 60
LANDMARKS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")

FER_FOLDERS = (
    "fer2013",
    "fer-2013",
    "fer_2013",
    "fer",
    "images",
    "archive",
    "challenges-in-representation-learning-facial-expression-recognition-challenge",
)
CK_FOLDERS = (
    "ck+48",
    "ck48",
    "ckplus",
    "ck+",
    "ck",
    "ckplus48",
    "ck_plus",
    "ck-plus",
    "cohn-kanade-plus",
    "archive",
)
SFEW_FOLDERS = (
    "sfew_2.0",
    "sfew 2.0",
    "sfew2.0",
    "sfew-2.0",
    "sfew20",
    "sfew2",
    "sfew",
    "sfew2.0_images",
    "images",
)
SFEW_PARTS = {"train": "Training", "val": "PublicTest"}
CSV_FILES = ("fer2013.csv", "icml_face_data.csv")
# None: the folder merges PublicTest and PrivateTest (or may do so); only file names can tell them apart.
SPLIT_FOLDERS = {
    "train": "Training",
    "training": "Training",
    "publictest": "PublicTest",
    "privatetest": "PrivateTest",
    "test": None,
    "val": None,
    "valid": None,
    "validation": None,
}
SYNONYMS = {
    "angry": "anger",
    "disgusted": "disgust",
    "fearful": "fear",
    "happy": "happiness",
    "sad": "sadness",
    "surprised": "surprise",
    "contemptuous": "contempt",
}
CK_CODES = {1: "anger", 2: "contempt", 3: "disgust", 4: "fear", 5: "happiness", 6: "sadness", 7: "surprise"}
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".pgm"}
EIGHT_BIT_MODES = {"1", "L", "LA", "P", "RGB", "RGBA"}
AGAIN = "unpack or download the data set again"
PERMISSIONS = "check its permissions"
ROW = "correct this row or download the file again"
CUT = "the file is damaged or cut short; download it again"


class DataError(Exception):
    """Data are missing or wrong.  The message is one line: file, place, remedy."""


def first_line(error: Exception) -> str:
    """What an error says, without the pages that torch adds; its kind if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def unreadable(path: Path, error: OSError) -> DataError:
    """Of a file that is there and may not be read: it is not damaged, and must not be deleted."""
    return DataError(f"{path}: cannot be read ({error.strerror or error}); look at its permissions")


def _error(path: Path, what: str, remedy: str, line: int | None = None) -> DataError:
    place = f"{path}, line {line}" if line else f"{path}"
    return DataError(" ".join(f"{place}: {what}; {remedy}.".split()))


# --- finding the data set -------------------------------------------------------------------------


def candidates(root: Path, names: tuple[str, ...]) -> list[Path]:
    """Folders under `root` that may be the data set: called one of `names`, twice nested, or `root`."""
    outer = _subfolders(root, names)
    inner = [deeper for folder in outer for deeper in _subfolders(folder, names)]
    return [*outer, *inner, root]


def _subfolders(folder: Path, names: tuple[str, ...] | None = None) -> list[Path]:
    """Visible folders in `folder`, sorted; with `names`, those called so (any case), in that order."""
    found = [folder / e.name for e in _entries(folder) if not e.name.startswith("__") and e.is_dir()]
    if names is None:
        return found
    return [p for name in names for p in found if p.name.lower() == name]


def _file(folder: Path, name: str) -> Path | None:
    """The file called so, in any case; also in a folder of its name, which some programs unpack it into."""
    for entry in (e for e in _entries(folder) if e.name.lower() == name):
        path = folder / entry.name
        if entry.is_file():
            return path
        if entry.is_dir() and (inner := _file(path, name)):
            return inner
    return None


def _image_files(folder: Path) -> list[Path]:
    names = [e.name for e in _entries(folder)]
    return [folder / name for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES]


def _entries(folder: Path) -> list[os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            # A leading dot is .DS_Store or the shadow ._NAME.png that macOS leaves on other disks.
            return sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
    except OSError as error:
        raise _error(folder, f"the folder cannot be read ({error.strerror})", PERMISSIONS) from error


def read_fer2013(root: Path, classes: tuple[str, ...]) -> dict | None:
    """Read FER2013 from whichever layout lies under `root`; None if there is none.

    A CSV file is preferred to image folders, because the folders are a lossy re-encoding of it.

    Raises
    ------
    DataError
        On the first defect found, or if only the competition's `train.csv` is there.
    """
    folders = candidates(root, FER_FOLDERS)
    for folder in folders:
        for name in CSV_FILES:
            if path := _file(folder, name):
                return read_fer_csv(path, classes)
    for folder in folders:
        inner = [p for p in _subfolders(folder) if p.name.lower() in SPLIT_FOLDERS]
        if folder == root:  # where data sets lie side by side a folder test/ may be anything
            inner = [
                p
                for p in inner
                if any(_class_name(c.name) in classes or _image_files(c) for c in _subfolders(p))
            ]
        if inner:
            return read_fer_folders(folder, classes)
    _refuse(
        folders,
        "train.csv",
        "the test.csv that goes with this file has no labels",
        "use icml_face_data.csv (or fer2013.csv) of the same Kaggle download",
    )
    return None


def read_ckplus(root: Path, classes: tuple[str, ...]) -> dict | None:
    """Read CK+ from whichever layout lies under `root`; None if there is none.

    The 48-pixel class folders are preferred, because their faces are already cut out.

    Raises
    ------
    DataError
        On the first defect found.
    """
    folders = candidates(root, CK_FOLDERS)
    for folder in folders:
        known = [p for p in _subfolders(folder) if _class_name(p.name) in classes]
        if len(known) > 1:
            return read_ck_folders(folder, classes)
    for folder in folders:
        if _ck_images(folder):
            return read_ck_original(folder, classes)
    _refuse(
        folders,
        "ckextended.csv",
        "this table does not tell people apart, so that they could not be kept apart in training and test",
        "use the class folders CK+48",
    )
    return None


def _refuse(folders: list[Path], name: str, why: str, remedy: str) -> None:
    """Raise DataError if one of the folders holds a file that looks like the data set and cannot stand for it."""
    for folder in folders:
        if path := _file(folder, name):
            raise _error(path, why, remedy)


def read_sfew(root: Path, classes: tuple[str, ...]) -> dict | None:
    """Read SFEW 2.0's aligned faces from whichever layout lies under `root`; None if there is none.

    Raises
    ------
    DataError
        On the first defect found.
    """
    for folder in candidates(root, SFEW_FOLDERS):
        parts = {word: _sfew_part(folder, word, classes) for word in SFEW_PARTS}
        if any(parts.values()):
            return read_sfew_folders(folder, parts, classes)
    return None


# --- FER2013 --------------------------------------------------------------------------------------


def read_fer_csv(path: Path, classes: tuple[str, ...]) -> dict:
    """Read `fer2013.csv` or `icml_face_data.csv`, in the order of the file.

    Raises
    ------
    DataError
        At the first bad row; the message gives its line number as an editor shows it.
    """
    images, labels, split, source = [], [], [], []
    codes = {str(k) for k in range(len(classes))}
    for line, row in _csv_rows(path, ("emotion", "pixels", "usage")):
        emotion, usage = row["emotion"], row["usage"]
        if emotion not in codes:
            raise _error(path, f"emotion {emotion[:20]!r} is not one of 0 to {len(codes) - 1}", ROW, line)
        if usage not in SPLITS:
            raise _error(path, f"Usage {usage[:20]!r} is not one of {', '.join(SPLITS)}", ROW, line)
        images.append(_pixels(row["pixels"], path, line))
        labels.append(int(emotion))
        split.append(usage)
        source.append(f"{path.name}:{line}")
    return _fields(np.stack(images), labels, source, f"one CSV file ({path.name})", split=split)


def _csv_rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, row) with stripped cells under lower-case, stripped column names."""
    place = 0  # the line being read; lines are decoded one by one so that a bad byte can be located

    def lines(file, bar):
        nonlocal place
        for place, raw in enumerate(file, 1):
            bar.update(len(raw))
            yield raw.decode("utf-8-sig" if place == 1 else "utf-8")

    try:
        with open(path, "rb") as file, _bar(path.stat().st_size, path.name, unit="B", unit_scale=True) as bar:
            rows = csv.reader(lines(file, bar))
            header = [cell.strip().lower() for cell in next(rows, [])]
            if not header:
                raise _error(path, "the file is empty", "download it again", 1)
            missing = [column for column in columns if column not in header]
            if missing:
                raise _error(
                    path,
                    f"the header lacks the column {missing[0]!r}",
                    f"the first line must name {', '.join(columns)}",
                    1,
                )
            empty = True
            for cells in rows:
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise _error(
                        path, f"the row has {len(cells)} cells, the header {len(header)}", CUT, place
                    )
                empty = False
                yield place, dict(zip(header, (cell.strip() for cell in cells), strict=True))
            if empty:
                raise _error(path, "there are no rows under the header", "download the file again", 1)
    except UnicodeDecodeError as error:
        raise _error(
            path, "the line is not UTF-8 text", "save the file as UTF-8 or download it again", place
        ) from error
    except csv.Error as error:
        raise _error(path, f"the line is not CSV ({error})", "download the file again", place) from error
    except OSError as error:
        raise _error(path, f"the file cannot be read ({error.strerror})", PERMISSIONS) from error


def _pixels(text: str, path: Path, line: int) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # before NumPy 2.3 bad text only warned
            pixels = np.fromstring(text, np.int64, sep=" ")
        bad = pixels.size and (pixels.min() < 0 or pixels.max() > 255)
    except (ValueError, DeprecationWarning):
        bad = True
    if bad:
        k, cell = next(
            (k, cell)
            for k, cell in enumerate(filter(None, text.split(" ")), 1)
            if not (cell.isascii() and cell.isdigit() and len(cell) < 9 and int(cell) <= 255)
        )
        raise _error(path, f"pixel {k} is {cell[:20]!r}, not a whole number from 0 to 255", ROW, line)
    if len(pixels) != SIDE * SIDE:
        raise _error(path, f"the row has {len(pixels)} pixels instead of {SIDE * SIDE}", CUT, line)
    return pixels.astype(np.uint8).reshape(SIDE, SIDE)


def read_fer_folders(folder: Path, classes: tuple[str, ...]) -> dict:
    """Read image folders `train/`, `test/` (or one folder per split), each with a folder per class.

    The split is the prefix of the file name (`PrivateTest_123.jpg`) where there is one, else it
    is that of the folder.  Images come in the order of (split, file name).

    Raises
    ------
    DataError
        If a split cannot be told, a folder is not a class, or an image is not 48x48 or unreadable.
    """
    split_folders = [p for p in _subfolders(folder) if p.name.lower() in SPLIT_FOLDERS]
    _refuse_doubled_splits(split_folders)
    found = []
    for outer in split_folders:
        for label, path in _class_files(outer, classes):
            own = {s.lower(): s for s in SPLITS}.get(path.name.split("_")[0].lower())
            split = own or SPLIT_FOLDERS[outer.name.lower()]
            if split is None:
                raise _error(
                    path,
                    f"{outer.name}/ may merge PublicTest and PrivateTest, and the file name"
                    " does not say which this is",
                    "use fer2013.csv, or a copy whose file names"
                    " keep the official split (PrivateTest_123.jpg)",
                )
            found.append((SPLITS.index(split), path.name, path, label))
    found.sort(key=lambda item: (item[0], item[1], str(item[2])))
    paths = [item[2] for item in found]
    if not paths:
        raise _error(folder, "the class folders contain no images", AGAIN)
    where = ", ".join(p.name + "/" for p in split_folders)
    return _fields(
        read_images(paths),
        [item[3] for item in found],
        _relative(paths, folder),
        f"image folders by class ({where})",
        split=[SPLITS[item[0]] for item in found],
    )


def _refuse_doubled_splits(split_folders: list[Path]) -> None:
    seen: dict[str, Path] = {}
    for folder in split_folders:
        name = folder.name.lower()
        seen_as = SPLIT_FOLDERS[name] or name
        if seen_as in seen:
            raise _error(
                folder,
                f"{seen[seen_as].name} and {folder.name} are the same split",
                "keep one of the two folders",
            )
        seen[seen_as] = folder
    if "test" in seen and ("PublicTest" in seen or "PrivateTest" in seen):
        raise _error(
            seen["test"],
            f"{seen['test'].name} merges splits that also have a folder of their own",
            f"keep either {seen['test'].name} or PublicTest and PrivateTest",
        )


def _class_files(folder: Path, classes: tuple[str, ...]) -> list[tuple[int, Path]]:
    """(label, path) of every image in the class folders of `folder`; other files are ignored."""
    seen: dict[str, Path] = {}
    found = []
    for inner in _subfolders(folder):
        name = _class_name(inner.name)
        if name not in classes:
            raise _error(
                inner,
                "the folder is not named after a class",
                f"rename it to one of {', '.join(classes)}, or move it elsewhere",
            )
        if name in seen:
            raise _error(
                inner, f"{seen[name].name} and {inner.name} are the same class", "merge the two folders"
            )
        if deeper := next((p for p in _subfolders(inner) if _image_files(p)), None):
            raise _error(
                deeper, "there are images in a folder of a class folder", f"move them up into {inner.name}/"
            )
        seen[name] = inner
        found += [(classes.index(name), path) for path in _image_files(inner)]
    return found


def _class_name(folder_name: str) -> str:
    name = folder_name.strip().lower()
    return SYNONYMS.get(name, name)


# --- CK+ ------------------------------------------------------------------------------------------


def read_ck_folders(folder: Path, classes: tuple[str, ...]) -> dict:
    """Read 48-pixel class folders of files `S132_006_00000023.png` (subject, sequence, frame).

    Images come in the order of their file names; a sequence is called `S132_006`.

    Raises
    ------
    DataError
        If a folder is not a class, a file name has another form, or an image is not 48x48.
    """
    found = sorted(
        ((path, label) for label, path in _class_files(folder, classes)),
        key=lambda item: (item[0].name, str(item[0])),
    )
    subject, sequence = [], []
    for path, _ in found:
        match = re.match(r"(S\d+)_(\d+)_\d+\.", path.name)
        if not match:
            raise _error(
                path,
                "the file name is not of the form S132_006_00000023.png, so subject and sequence are unknown",
                "restore the original file names",
            )
        subject.append(match[1])
        sequence.append(f"{match[1]}_{match[2]}")
    paths = [path for path, _ in found]
    if not paths:
        raise _error(folder, "the class folders contain no images", AGAIN)
    return _fields(
        read_images(paths),
        [label for _, label in found],
        _relative(paths, folder),
        "48-pixel image folders by class",
        subject=subject,
        sequence=sequence,
    )


def centre_square(image: Image.Image) -> Image.Image:
    """The largest centred square of an image."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def read_ck_original(
    folder: Path, classes: tuple[str, ...], crop: Callable[[Image.Image], Image.Image] = centre_square
) -> dict:
    """Read the original tree: `cohn-kanade-images/S005/001/*.png` and `Emotion/S005/001/*.txt`.

    The last three frames of every labelled sequence are taken, cropped, and resized to 48x48
    (Lanczos), in the order of their file names.

    Parameters
    ----------
    folder : Path
        Contains `cohn-kanade-images` and `Emotion` (or `Emotion_labels`).
    classes : tuple of str
        Class names in label order.
    crop : callable
        Takes the grey frame (mode L), returns the face.  The default knows nothing about faces: it
        keeps the largest centred square, with much background, which is not the tight crop of the
        48-pixel folders.  Pass a detector's crop to compare with published numbers.

    Raises
    ------
    DataError
        If a label file or a frame is missing, unreadable or has no class, or if the frame that a label file is named
        after, the sequence's last, is not there.
    """
    images_folder = _ck_images(folder)
    label_folder = next((p for p in _subfolders(folder, ("emotion", "emotion_labels"))), None)
    if label_folder is None:
        raise _error(
            folder,
            "there is no folder Emotion with the labels",
            "unpack Emotion_labels.zip of the original data set beside cohn-kanade-images",
        )
    label_folder = next(iter(_subfolders(label_folder, ("emotion",))), label_folder)
    found = []
    taken: dict[str, Path] = {}
    for text_file in sorted(label_folder.glob("*/*/[!.]*_emotion.txt")):
        match = re.match(r"(S\d+)_(\d+)_(\d+)_emotion\.txt$", text_file.name)
        if not match:
            raise _error(text_file, "the file name is not of the form S005_001_00000011_emotion.txt", AGAIN)
        sequence = f"{match[1]}_{match[2]}"
        if sequence in taken:
            raise _error(
                text_file,
                f"sequence {sequence} has another label file, {taken[sequence].name}",
                "keep the right one",
            )
        taken[sequence] = text_file
        label = classes.index(_ck_emotion(text_file))
        frame_folder = images_folder / match[1] / match[2]
        # "S005_001_00000011 copy.png" is no frame.
        frames = _image_files(frame_folder) if frame_folder.is_dir() else []
        frames = [p for p in frames if re.fullmatch(rf"{sequence}_\d+", p.stem)]
        frames = [p for p in frames if p.stem <= f"{sequence}_{match[3]}"]
        if frames and frames[-1].stem != f"{sequence}_{match[3]}":
            raise _error(frame_folder, f"there is no frame {match[3]}, which {text_file.name} labels", AGAIN)
        if len(frames) < 3:
            raise _error(frame_folder, f"the labelled sequence has {len(frames)} frames, fewer than 3", AGAIN)
        found += [(path, label, match[1], sequence) for path in frames[-3:]]
    if not found:
        raise _error(label_folder, "there are no label files S005/001/..._emotion.txt", AGAIN)
    found.sort(key=lambda item: item[0].name)
    paths = [item[0] for item in found]
    how = "centred square" if crop is centre_square else "given crop"
    return _fields(
        read_images(paths, crop),
        [item[1] for item in found],
        _relative(paths, folder),
        f"original tree, last three frames of labelled sequences ({how}, resized to 48x48)",
        subject=[item[2] for item in found],
        sequence=[item[3] for item in found],
    )


def _ck_images(folder: Path) -> Path | None:
    names = ("cohn-kanade-images", "extended-cohn-kanade-images")
    outer = next(iter(_subfolders(folder, names)), None)
    return outer and next(iter(_subfolders(outer, names)), outer)


def _ck_emotion(text_file: Path) -> str:
    try:
        return CK_CODES[float(text_file.read_text("ascii"))]  # the text is like "   3.0000000e+00"
    except (ValueError, KeyError, OSError) as error:
        raise _error(
            text_file,
            "the file does not hold one emotion code from 1 to 7",
            "restore it from Emotion_labels.zip",
            1,
        ) from error


# --- SFEW 2.0 -------------------------------------------------------------------------------------


def read_sfew_folders(folder: Path, parts: dict[str, Path | None], classes: tuple[str, ...]) -> dict:
    """Read the aligned faces, a folder a class in the folder of each part, in the order of (part, file name).

    The challenge's training part becomes Training, its validation part PublicTest.  Faces of any size (the
    distributed ones are 143 x 181) are made grey and 48 x 48, each pixel the mean over its area.

    Parameters
    ----------
    folder : Path
        To which the sources are relative.
    parts : dict
        "train" and "val" -> their folders; None for one that is missing.

    Raises
    ------
    DataError
        If a part is missing, a folder is not a class, or an image is unreadable or a whole film frame.
    """
    paths, labels, split = [], [], []
    for word, name in SFEW_PARTS.items():
        part = parts[word]
        if part is None:
            raise _error(
                folder,
                f"there is no {word.capitalize()}_Aligned_Faces with a folder for each class",
                f"unpack {word.capitalize()}_Aligned_Faces.zip of SFEW 2.0 here",
            )
        found = sorted(_class_files(part, classes), key=lambda item: (item[1].name, str(item[1])))
        if not found:
            raise _error(part, "the class folders contain no images", AGAIN)
        paths += [path for _, path in found]
        labels += [label for label, _ in found]
        split += [name] * len(found)
        _refuse_film_frames(paths[-1])
    unlabelled = max((len(_image_files(p)) for p in _sfew_places(folder, "test")), default=0)
    where = ", ".join(f"{p.relative_to(folder).as_posix()}/" for p in parts.values())
    left_out = f"; the {unlabelled} test faces, which have no labels, are left out" if unlabelled else ""
    return _fields(
        read_images(paths, lambda face: face, Image.Resampling.BOX),
        labels,
        _relative(paths, folder),
        f"aligned faces by class ({where}), resized to 48x48{left_out}",
        split=split,
    )


def _refuse_film_frames(path: Path) -> None:
    try:
        with Image.open(path) as image:
            width, height = image.size
    except Exception:  # damaged: read_images says so
        return
    if width > 1.2 * height:
        raise _error(
            path,
            f"the image is {width}x{height}, a whole film frame and not an aligned face",
            "use Train_Aligned_Faces and Val_Aligned_Faces of SFEW 2.0",
        )


def _sfew_places(folder: Path, word: str) -> list[Path]:
    """Folders that may hold a part: Val_Aligned_Faces[_new], the same inside Val or once more inside itself, Val."""
    names = (f"{word}_aligned_faces", f"{word}_aligned_faces_new")
    plain = _subfolders(folder, (word,))
    aligned = [p for outer in (folder, *plain) for p in _subfolders(outer, names)]
    return [*(q for p in aligned for q in _subfolders(p, names)), *aligned, *plain]


def _sfew_part(folder: Path, word: str, classes: tuple[str, ...]) -> Path | None:
    """The first of these places with class folders; a bare Train/ counts only in a folder that is called SFEW."""
    for place in _sfew_places(folder, word):
        aligned = "aligned" in place.name.lower() or folder.name.lower() in SFEW_FOLDERS[:-1]
        if aligned and any(_class_name(p.name) in classes for p in _subfolders(place)):
            return place
    return None


# --- images ---------------------------------------------------------------------------------------


def read_images(
    paths: list[Path],
    crop: Callable[[Image.Image], Image.Image] | None = None,
    resample: Image.Resampling = Image.Resampling.LANCZOS,
) -> np.ndarray:
    """Read image files as grey, uint8 (N, 48, 48).

    Without `crop` an image of another size is an error, for silent resizing would change the data;
    with `crop` the cropped image is resized.

    Raises
    ------
    DataError
        At the first file that is damaged, above 4 megapixels, not 8-bit, or of another size.
    """
    images = np.empty((len(paths), SIDE, SIDE), np.uint8)
    # No threads: for images this small they were slower than the plain loop (the GIL is the limit).
    with warnings.catch_warnings(), _bar(len(paths), "images", unit="img") as bar:
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for k, path in enumerate(paths):
            images[k] = _read_image(path, crop, resample)
            bar.update()
    return images


def _read_image(path: Path, crop: Callable[[Image.Image], Image.Image] | None, resample) -> np.ndarray:
    try:
        with Image.open(path) as image:  # reads the header only
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise _error(
                    path,
                    f"the image is {width}x{height}, above 4 megapixels",
                    "replace it, for no data set read here has such images",
                )
            if image.mode not in EIGHT_BIT_MODES:
                raise _error(path, f"the image has mode {image.mode}, not 8 bits a channel", AGAIN)
            if crop is None and (width, height) != (SIDE, SIDE):
                raise _error(
                    path,
                    f"the image is {width}x{height}, not {SIDE}x{SIDE}",
                    "use a copy of the data set that has not been resized",
                )
            grey = image.convert("L")
    except DataError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise _error(
            path, "the image is above 4 megapixels", "replace it, for no data set read here has such images"
        ) from error
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        raise _error(path, f"the image cannot be read ({type(error).__name__})", AGAIN) from error
    if crop is not None:
        grey = crop(grey).resize((SIDE, SIDE), resample)
    return np.asarray(grey)


# --- demo -----------------------------------------------------------------------------------------


def read_sheet(folder: Path, name: str, classes: tuple[str, ...]) -> dict:
    """Read a demo set: `NAME.png`, a sheet of 48x48 tiles, 60 to a row, and `NAME.csv`, a row a tile.

    Raises
    ------
    DataError
        If one of the two files is missing or does not fit the other.
    """
    remedy = "reinstall the package"
    sheet_path, table_path = folder / f"{name}.png", folder / f"{name}.csv"
    points = [f"{point}_{axis}" for point in LANDMARKS for axis in "xy"]
    try:
        with Image.open(sheet_path) as image:
            sheet = np.asarray(image.convert("L"))
    except Exception as error:
        raise _error(sheet_path, f"the sheet cannot be read ({type(error).__name__})", remedy) from error
    images, labels, split, subject, sequence, truth = [], [], [], [], [], []
    for line, row in _csv_rows(table_path, ("index", "label", "split", "subject", "sequence", *points)):
        k = len(labels)
        top, left = SIDE * (k // SHEET_COLUMNS), SIDE * (k % SHEET_COLUMNS)
        tile = sheet[top : top + SIDE, left : left + SIDE]
        if row["index"] != str(k) or tile.shape != (SIDE, SIDE):
            raise _error(table_path, f"the sheet has no tile {k}, or this row is not its", remedy, line)
        if row["label"] not in classes or row["split"] not in (*SPLITS, ""):
            raise _error(
                table_path, f"unknown label {row['label']!r} or split {row['split']!r}", remedy, line
            )
        try:
            truth.append([float(row[point]) for point in points])
        except ValueError as error:
            raise _error(table_path, "a landmark is not a number", remedy, line) from error
        images.append(tile)
        labels.append(classes.index(row["label"]))
        split.append(row["split"])
        subject.append(row["subject"])
        sequence.append(row["sequence"])
    if len(sheet) != SIDE * -(-len(labels) // SHEET_COLUMNS):
        raise _error(table_path, f"{len(labels)} rows do not fill the sheet of height {len(sheet)}", remedy)
    return _fields(
        np.stack(images),
        labels,
        [f"{name}:{k}" for k in range(len(labels))],
        "synthetic faces embedded in the package",
        split=split,
        subject=subject,
        sequence=sequence,
        truth=np.array(truth, np.float32).reshape(-1, len(LANDMARKS), 2),
    )


# --- shared ---------------------------------------------------------------------------------------


def _bar(total: int, what: str, **options) -> tqdm:
    # disable=None: no bar unless stderr is a terminal, so that logs and notebooks stay clean.
    return tqdm(total=total, desc=what, leave=False, disable=None, **options)


def _relative(paths: list[Path], folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in paths]


def _fields(images, labels, source, layout, split=None, subject=None, sequence=None, truth=None) -> dict:
    blank = [""] * len(labels)
    return {
        "images": images,
        "labels": np.array(labels, np.int64),
        "split": np.array(split or blank, str),
        "subject": np.array(subject or blank, str),
        "sequence": np.array(sequence or blank, str),
        "source": np.array(source, str),
        "layout": layout,
        "truth": truth,
    }
