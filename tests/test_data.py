"""The data layer: every layout gives the same faces, every defect one line that says what to do."""

import os
import shutil
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from fercompanion import data, layouts
from fercompanion.data import CK_CLASSES, FER_CLASSES, SPLITS, DataError, Faces, clean_mask, load_faces

FER_FOLDERS = ("angry", "disgust", "Fear", "happy", "sad", "surprised", "neutral")  # as FER_CLASSES
REAL = os.environ.get("FERCOMPANION_DATA")


# --- writing the same tiny set in every layout ----------------------------------------------------


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    monkeypatch.delenv("FERCOMPANION_DATA", raising=False)


def noise(rng):
    return rng.integers(0, 256, (48, 48), np.uint8)


@pytest.fixture
def tiny():
    """21 FER images: each class once in each split."""
    rng = np.random.default_rng(0)
    return [(noise(rng), label, split) for split in SPLITS for label in range(7)]


def write_csv(folder, tiny, name="fer2013.csv", header="emotion,pixels,Usage", end="\n", start=b""):
    folder.mkdir(parents=True, exist_ok=True)
    rows = [header]
    for image, label, split in tiny:
        cells = {"emotion": str(label), "pixels": " ".join(map(str, image.ravel())), "Usage": split}
        rows.append(",".join(cells[column.strip()] for column in header.split(",")))
    (folder / name).write_bytes(start + end.join(rows).encode() + end.encode())
    return folder / name


def write_folders(folder, tiny, merged=True, prefix=True, mode="L", suffix=".png"):
    for k, (image, label, split) in enumerate(tiny):
        outer = {"Training": "train"}.get(split, "test") if merged else split
        path = folder / outer / FER_FOLDERS[label] / f"{split + '_' if prefix else ''}{k:05d}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).convert(mode).save(path)
    return folder


def as_set(faces):
    columns = (faces.labels.tolist(), faces.split.tolist(), faces.subject.tolist(), faces.sequence.tolist())
    return set(zip([image.tobytes() for image in faces.images], *columns, strict=True))


def write_icml(folder, tiny):
    write_csv(folder, tiny, "icml_face_data.csv", "emotion, Usage, pixels")


FER_LAYOUTS = {
    "fer2013.csv": write_csv,
    "icml_face_data.csv": write_icml,
    "Windows line ends and byte-order mark": lambda f, t: write_csv(f, t, end="\r\n", start=b"\xef\xbb\xbf"),
    "train/ and test/": write_folders,
    "one folder per split": lambda f, t: write_folders(f, t, merged=False, prefix=False),
    "RGB": lambda f, t: write_folders(f, t, mode="RGB"),
    "upper-case suffix": lambda f, t: write_folders(f, t, suffix=".PNG"),
}


@pytest.mark.parametrize("layout", FER_LAYOUTS)
def test_every_fer_layout_gives_the_same_faces(layout, tiny, tmp_path):
    FER_LAYOUTS[layout](tmp_path, tiny)
    faces = load_faces("fer2013", tmp_path)
    assert as_set(faces) == {(image.tobytes(), label, split, "", "") for image, label, split in tiny}
    assert faces.images.dtype == np.uint8 and faces.labels.dtype == np.int64 and faces.truth is None
    assert faces.classes == FER_CLASSES and len(set(faces.source)) == len(faces) == 21
    assert faces.sha256 == load_faces("fer2013", tmp_path).sha256


def test_order_and_sources_are_those_of_the_file(tiny, tmp_path):
    write_csv(tmp_path, tiny[::-1])
    faces = load_faces("fer2013", tmp_path)
    assert faces.source[0] == "fer2013.csv:2" and faces.split[0] == "PrivateTest"
    write_folders(tmp_path / "b", tiny)
    faces = load_faces("fer2013", tmp_path / "b")
    assert faces.source[0] == "train/angry/Training_00000.png"
    assert [str(s) for s in faces.split] == ["Training"] * 7 + ["PublicTest"] * 7 + ["PrivateTest"] * 7


def test_csv_is_preferred_to_folders_and_the_layout_says_so(tiny, tmp_path):
    write_folders(tmp_path / "fer2013", tiny)
    assert load_faces("fer2013", tmp_path).layout == "image folders by class (test/, train/)"
    write_icml(tmp_path, tiny)
    assert load_faces("fer2013", tmp_path).layout == "one CSV file (icml_face_data.csv)"


@pytest.mark.parametrize(
    "place", ["", "fer2013", "FER2013", "fer2013/fer2013", "images", "archive", "fer2013/fer2013.csv"]
)
def test_found_at_the_usual_places_through_the_environment(place, tiny, tmp_path, monkeypatch):
    write_csv(tmp_path / "data" / place, tiny)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("FERCOMPANION_DATA", "~/data")
    assert len(load_faces("fer2013")) == 21


def test_files_that_are_not_data_are_ignored(tiny, tmp_path):
    write_folders(tmp_path, tiny)
    for name in (".DS_Store", "._Training_00000.png", "Thumbs.db", "notes.txt"):
        (tmp_path / "train" / "angry" / name).write_bytes(b"x")
    for name in (".ipynb_checkpoints", "__MACOSX"):
        (tmp_path / "train" / name).mkdir()
    assert len(load_faces("fer2013", tmp_path)) == 21


# --- CK+ ------------------------------------------------------------------------------------------

CK_CODE = {"anger": 1, "contempt": 2, "disgust": 3, "fear": 4, "happiness": 5, "sadness": 6, "surprise": 7}


@pytest.fixture
def tiny_ck():
    """(image, label, subject, sequence number, frame): three frames of a sequence per class."""
    rng = np.random.default_rng(1)
    return [
        (noise(rng), label, ("S005", "S132")[label % 2], f"{label:03d}", frame)
        for label in range(7)
        for frame in (4, 5, 6)
    ]


def write_ck48(folder, tiny_ck):
    for image, label, subject, number, frame in tiny_ck:
        path = folder / CK_CLASSES[label] / f"{subject}_{number}_{frame:08d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


def write_ck_original(folder, tiny_ck, labels="Emotion"):
    for k, (image, label, subject, number, frame) in enumerate(tiny_ck):
        size, mode = ((640, 490), "L") if k % 2 else ((640, 480), "RGB")
        big = Image.new("L", size, 7)
        big.paste(Image.fromarray(image), (200, 100))
        path = folder / "cohn-kanade-images" / subject / number / f"{subject}_{number}_{frame:08d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        big.convert(mode).save(path)
        text = folder / labels / subject / number / f"{subject}_{number}_00000006_emotion.txt"
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text(f"   {CK_CODE[CK_CLASSES[label]]}.0000000e+00\n")
        (path.parent / ".DS_Store").write_bytes(b"x")
    # An earlier, neutral frame and a sequence without a label are both left out.
    for path in (
        folder / "cohn-kanade-images/S005/000/S005_000_00000001.png",
        folder / "cohn-kanade-images/S005/009/S005_009_00000001.png",
    ):
        path.parent.mkdir(exist_ok=True)
        Image.new("L", (640, 490)).save(path)
    (folder / labels / "S005" / "009").mkdir()
    return folder


@pytest.mark.parametrize("labels", ["Emotion", "Emotion_labels", "Emotion_labels/Emotion"])
def test_both_ck_layouts_give_the_same_faces(labels, tiny_ck, tmp_path):
    small = load_faces("ckplus", write_ck48(tmp_path / "a", tiny_ck))
    tree = write_ck_original(tmp_path / "b", tiny_ck, labels)
    fields = layouts.read_ck_original(tree, CK_CLASSES, crop=lambda image: image.crop((200, 100, 248, 148)))
    large = Faces(name="ckplus", classes=CK_CLASSES, **fields)
    assert small.sha256 == large.sha256 and as_set(small) == as_set(large)
    assert list(small.sequence) == list(large.sequence) and set(small.split) == {""}
    assert {"S005_000", "S132_001"} < set(small.sequence) and set(small.subject) == {"S005", "S132"}
    assert "given crop" in large.layout


def test_original_tree_by_default_keeps_the_centred_square(tiny_ck, tmp_path):
    tree = write_ck_original(tmp_path, tiny_ck)
    frame = np.zeros((480, 640), np.uint8)
    frame[:, 80:560] = 200
    Image.fromarray(frame).save(tree / "cohn-kanade-images/S005/000/S005_000_00000006.png")
    faces = load_faces("ckplus", tree)
    assert len(faces) == 21 and "centred square" in faces.layout
    assert (faces.images[faces.source == "cohn-kanade-images/S005/000/S005_000_00000006.png"] == 200).all()


@pytest.mark.parametrize("place", ["", "CK+48", "ckplus", "CK+", "ck48", "archive"])
def test_ck_found_at_the_usual_places(place, tiny_ck, tmp_path):
    write_ck48(tmp_path / place, tiny_ck)
    assert len(load_faces("ckplus", tmp_path)) == 21


# --- the record -----------------------------------------------------------------------------------


def test_subset_where_and_digests(tiny, tmp_path):
    write_csv(tmp_path, tiny)
    faces = load_faces("fer2013", tmp_path)
    index = faces.where("PublicTest")
    part = faces.subset(index)
    assert index.dtype == np.int64 and list(index) == list(range(7, 14))
    assert set(part.split) == {"PublicTest"} and list(part.source) == list(faces.source[7:14])
    assert as_set(part) == as_set(faces.subset(faces.split == "PublicTest"))
    assert len(faces.subset([])) == 0 and faces.subset([]).labels.dtype == np.int64
    assert faces.digests().dtype == np.uint64 and len(set(faces.digests().tolist())) == 21
    assert (part.digests() == faces.digests()[index]).all()
    with pytest.raises(DataError, match="'test'.*Training, PublicTest, PrivateTest"):
        faces.where("test")


def test_sha256_depends_on_the_content_and_not_on_the_source(tiny, tmp_path):
    write_csv(tmp_path, tiny)
    faces = load_faces("fer2013", tmp_path)
    changed = [
        dict(images=faces.images ^ 1),
        dict(labels=faces.labels[::-1]),
        dict(split=faces.split[::-1]),
        dict(classes=CK_CLASSES),
    ]
    keys = {data.replace(faces, **change).sha256 for change in changed}
    assert len(keys) == 4 and faces.sha256 not in keys
    assert data.replace(faces, source=faces.source[::-1]).sha256 == faces.sha256


def test_faces_refuses_columns_of_different_length(tiny, tmp_path):
    write_csv(tmp_path, tiny)
    with pytest.raises(ValueError, match="labels has 20 entries for 21 images"):
        data.replace(load_faces("fer2013", tmp_path), labels=np.zeros(20, np.int64))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": np.zeros((21, 60, 48), np.uint8)}, r"uint8 \(N, S, S\)"),
        ({"split": ["Training"] * 21}, "split must be an array, not a list"),
        ({"labels": np.zeros(21, np.int32)}, "labels must be int64, not int32"),
    ],
)
def test_faces_refuses_what_would_fail_later(change, words, tiny, tmp_path):
    write_csv(tmp_path, tiny)
    with pytest.raises(ValueError, match=words):
        data.replace(load_faces("fer2013", tmp_path), **change)


def test_clean_mask(tmp_path):
    pictures = [np.full((48, 48), grey, np.uint8) for grey in range(4)]
    rows = [
        (pictures[0], 0, "Training"),
        (pictures[1], 0, "Training"),
        (pictures[0], 1, "Training"),
        (pictures[0], 0, "PublicTest"),
        (pictures[2], 0, "PublicTest"),
        (pictures[2], 0, "PrivateTest"),
        (pictures[1], 2, "PrivateTest"),
        (pictures[3], 0, "PrivateTest"),
    ]
    write_csv(tmp_path, rows)
    mask = clean_mask(load_faces("fer2013", tmp_path))
    assert mask.dtype == bool and mask.tolist() == [True, True, False, False, True, True, False, True]


def test_clean_mask_without_splits_keeps_everything(tiny_ck, tmp_path):
    assert clean_mask(load_faces("ckplus", write_ck48(tmp_path, tiny_ck))).all()


# --- demo -----------------------------------------------------------------------------------------


def write_sheet(folder, n=61, tiles=None, **changes):
    """A demo set of `n` tiles; tile k is of grey k, `changes` are column=text for the last row."""
    tiles = n if tiles is None else tiles
    sheet = np.zeros((48 * -(-tiles // 60), 48 * 60), np.uint8)
    points = [f"{point}_{axis}" for point in layouts.LANDMARKS for axis in "xy"]
    columns = ["index", "label", "split", "subject", "sequence", "frame", *points]
    lines = [",".join(columns)]
    for k in range(n):
        if k < tiles:
            sheet[48 * (k // 60) : 48 * (k // 60) + 48, 48 * (k % 60) : 48 * (k % 60) + 48] = k
        cells = [
            k,
            FER_CLASSES[k % 7],
            SPLITS[k % 3],
            f"P{k // 3}",
            f"P{k // 3}_1",
            k % 3,
            *[k + j / 4 for j in range(10)],
        ]
        row = dict(zip(columns, map(str, cells), strict=True))
        lines.append(",".join((row | (changes if k == n - 1 else {})).values()))
    Image.fromarray(sheet).save(folder / "demo.png")
    (folder / "demo.csv").write_text("\n".join(lines) + "\n")


def test_demo_sheet(tmp_path):
    write_sheet(tmp_path)
    faces = Faces(name="demo", classes=FER_CLASSES, **layouts.read_sheet(tmp_path, "demo", FER_CLASSES))
    assert (faces.images == np.arange(61, dtype=np.uint8)[:, None, None]).all()
    assert faces.truth.shape == (61, 5, 2) and faces.truth.dtype == np.float32
    assert faces.truth[60].tolist() == [[60 + j / 4, 60 + (j + 1) / 4] for j in range(0, 10, 2)]
    assert (faces.source[60], faces.subject[60], faces.split[60]) == ("demo:60", "P20", "Training")
    assert faces.labels.tolist() == [k % 7 for k in range(61)]
    assert faces.subset([3]).truth.shape == (1, 5, 2)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (dict(label="joy"), ["demo.csv, line 62", "'joy'"]),
        (dict(split="Test"), ["demo.csv, line 62", "'Test'"]),
        (dict(nose_x="?"), ["demo.csv, line 62", "landmark"]),
        (dict(index="7"), ["demo.csv, line 62", "tile 60"]),
        (dict(tiles=60), ["demo.csv, line 62", "tile 60"]),
        (dict(tiles=121), ["demo.csv", "61 rows", "144"]),
    ],
)
def test_a_demo_that_does_not_fit_its_table_is_refused(how, words, tmp_path):
    write_sheet(tmp_path, **how)
    refused(lambda: layouts.read_sheet(tmp_path, "demo", FER_CLASSES), *words, "reinstall the package")


def test_a_demo_that_is_not_there_is_refused(tmp_path):
    refused(lambda: layouts.read_sheet(tmp_path, "demo", FER_CLASSES), "demo.png", "reinstall the package")


@pytest.mark.parametrize(("name", "classes"), [("demo", FER_CLASSES), ("demo-ck", CK_CLASSES)])
def test_embedded_demo(name, classes):
    faces = load_faces(name, root="/nowhere")  # the root plays no part
    assert faces.images.shape == (len(faces), 48, 48) and faces.truth.shape == (len(faces), 5, 2)
    assert faces.classes == classes and set(faces.labels.tolist()) == set(range(7))
    assert faces.source[5] == f"{name}:5" and np.isfinite(faces.truth).all()


# --- bad data -------------------------------------------------------------------------------------


def refused(action, *words):
    """The action raises a DataError of one line that contains all the words."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError) as caught:
            action()
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".")
    for word in words:
        assert word in message, message


def tree(folder):
    return {(p, p.stat().st_mtime_ns) for p in folder.rglob("*")}


def edit_line(path, line, change):
    lines = path.read_bytes().split(b"\n")
    lines[line - 1] = change(lines[line - 1])
    path.write_bytes(b"\n".join(lines))


def pixels(text):
    return lambda line: b"0," + text.encode() + b",Training"


GOOD = "1 " * 2303
AGAIN = "download"
BAD_CSV = {
    "truncated in the pixels": (5, lambda line: line[:300], ["line 5", "2 cells", AGAIN]),
    "truncated pixels": (5, pixels("1 2 3"), ["line 5", "3 pixels instead of 2304", AGAIN]),
    "one pixel more": (5, pixels(GOOD + "1 1"), ["line 5", "2305 pixels instead of 2304", AGAIN]),
    "no pixels": (5, pixels(""), ["line 5", "0 pixels instead of 2304", AGAIN]),
    "label 9": (9, lambda line: b"9" + line[1:], ["line 9", "emotion '9'", "0 to 6", "correct this row"]),
    "label -1": (9, lambda line: b"-1" + line[1:], ["line 9", "emotion '-1'", "correct this row"]),
    "label word": (9, lambda line: b"angry" + line[1:], ["line 9", "'angry'", "correct this row"]),
    "pixel 300": (2, pixels(GOOD + "300"), ["line 2", "pixel 2304 is '300'", "0 to 255", "correct this row"]),
    "pixel -1": (2, pixels("-1 " + GOOD[2:] + "1"), ["line 2", "pixel 1 is '-1'", "correct this row"]),
    "pixel word": (3, pixels("1 x " + GOOD[4:] + "1"), ["line 3", "pixel 2 is 'x'", "correct this row"]),
    "pixel 1.5": (3, pixels(GOOD + "1.5"), ["line 3", "pixel 2304 is '1.5'", "correct this row"]),
    "junk at the end": (3, pixels(GOOD + "1abc"), ["line 3", "pixel 2304 is '1abc'", "correct this row"]),
    "huge pixel": (3, pixels(GOOD + "9" * 5000), ["line 3", "pixel 2304", "correct this row"]),
    "misspelt Usage": (4, lambda line: line.replace(b"Train", b"Tran"), ["line 4", "'Traning'", "correct"]),
    "not UTF-8": (6, lambda line: b"\xff\xfe" + line, ["line 6", "UTF-8", AGAIN]),
    "one cell more": (7, lambda line: line + b",x", ["line 7", "4 cells", AGAIN]),
    "open quote": (7, lambda line: b'"' + line, ["line ", AGAIN]),
    "missing column": (1, lambda line: b"emotion,pixels,use", ["line 1", "'usage'", "must name"]),
    "no header": (1, lambda line: b"", ["line 1", "empty", AGAIN]),
}


@pytest.mark.parametrize("case", BAD_CSV)
def test_bad_csv(case, tiny, tmp_path):
    line, change, words = BAD_CSV[case]
    path = write_csv(tmp_path, tiny)
    edit_line(path, line, change)
    before = tree(tmp_path)
    refused(lambda: load_faces("fer2013", tmp_path), "fer2013.csv", *words)
    assert tree(tmp_path) == before


def test_line_numbers_count_blank_lines(tiny, tmp_path):
    path = write_csv(tmp_path, tiny, end="\r\n")
    edit_line(path, 3, lambda line: b"\r\n\r\n8" + line[1:])
    refused(lambda: load_faces("fer2013", tmp_path), "fer2013.csv, line 5", "emotion '8'")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["empty"]),
        (b"emotion,pixels,Usage\n", ["no rows"]),
        ("emotion,pixels,Usage\n".encode("utf-16"), ["UTF-8"]),
    ],
)
def test_empty_csv(content, words, tmp_path):
    (tmp_path / "fer2013.csv").write_bytes(content)
    refused(lambda: load_faces("fer2013", tmp_path), "fer2013.csv, line 1", *words, AGAIN)


def test_competition_files_without_labels(tmp_path):
    for name in ("train.csv", "test.csv"):
        (tmp_path / name).write_text("emotion,pixels\n")
    refused(lambda: load_faces("fer2013", tmp_path), "train.csv", "no labels", "use icml_face_data.csv")


def png_header(width, height):
    """A PNG that ends after its header: decoding it fails, asking for its size does not."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return head + struct.pack(">I", 9) + b"IDAT"


def save(image):
    return lambda path: image.save(path)


def write(content):
    return lambda path: path.write_bytes(content)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:900])


def rename(path):
    path.rename(path.parent / "x")


FIRST = "train/angry/Training_00000.png"
BLANK = Image.new("L", (48, 48))
BAD_FOLDERS = {  # the file that is written, how, the file or folder that is named, what else is said
    "not an image": (FIRST, write(b"hello"), FIRST, ["cannot be read", "unpack or download"]),
    "empty file": (FIRST, write(b""), FIRST, ["cannot be read", "unpack or download"]),
    "cut short": (FIRST, cut_short, FIRST, ["cannot be read", "unpack or download"]),
    "40 megapixels": (FIRST, write(png_header(8000, 5000)), FIRST, ["8000x5000", "4 megapixels", "replace"]),
    "100 megapixels": (FIRST, write(png_header(10000, 10000)), FIRST, ["4 megapixels", "replace it"]),
    "900 megapixels": (FIRST, write(png_header(30000, 30000)), FIRST, ["4 megapixels", "replace it"]),
    "wrong size": (FIRST, save(BLANK.resize((224, 224))), FIRST, ["224x224, not 48x48", "not been resized"]),
    "16 bits": (FIRST, save(Image.new("I;16", (48, 48))), FIRST, ["mode I;16", "unpack or download"]),
    "unknown class": ("train/joyful/x.png", save(BLANK), "train/joyful", ["rename it to one of anger"]),
    "class twice": ("train/anger/x.png", save(BLANK), "train/angry", ["same class", "merge"]),
    "split twice": ("Training/angry/x.png", save(BLANK), "train", ["Training", "same split", "keep one"]),
    "split also merged": ("PublicTest/angry/x.png", save(BLANK), "test", ["test merges", "keep either"]),
    "merged test": ("test/angry/x.png", save(BLANK), "test/angry/x.png", ["may merge", "fer2013.csv"]),
}


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_bad_folders(case, tiny, tmp_path):
    name, change, place, words = BAD_FOLDERS[case]
    write_folders(tmp_path, tiny)
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    change(tmp_path / name)
    before = tree(tmp_path)
    refused(lambda: load_faces("fer2013", tmp_path), f"{tmp_path / place}: ", *words)
    assert tree(tmp_path) == before


def test_folders_without_images(tmp_path):
    (tmp_path / "train" / "angry").mkdir(parents=True)
    refused(lambda: load_faces("fer2013", tmp_path), str(tmp_path), "no images", "unpack or download")


TEXT = "Emotion/S005/000/S005_000_00000006_emotion.txt"
FRAMES = "cohn-kanade-images/S132/001"
BAD_CK = {  # the file that is written, how, what is said
    "unreadable emotion": (TEXT, write(b"\xff?"), [f"{TEXT}, line 1", "1 to 7", "restore"]),
    "no emotion": (TEXT, write(b""), [f"{TEXT}, line 1", "1 to 7", "restore"]),
    "emotion 8": (TEXT, write(b"8.0"), [f"{TEXT}, line 1", "1 to 7", "restore"]),
    "neutral": (TEXT, write(b"0.0"), [f"{TEXT}, line 1", "1 to 7", "restore"]),
    "label twice": (TEXT.replace("6", "9"), write(b"1.0"), [TEXT.replace("6", "9"), "S005_000", "keep"]),
    "no labelled frame": (f"{FRAMES}/S132_001_00000006.png", rename, [FRAMES, "no frame 00000006", "unpack"]),
    "no frames": (FRAMES, rename, [FRAMES, "0 frames", "unpack"]),
    "no labels": ("Emotion", rename, ["no folder Emotion", "unpack Emotion_labels.zip"]),
    "damaged frame": (f"{FRAMES}/S132_001_00000005.png", write(b"x"), [FRAMES, "05.png: ", "cannot be read"]),
}


def test_a_copy_of_a_frame_is_no_frame(tiny_ck, tmp_path):
    write_ck_original(tmp_path, tiny_ck)
    sha256 = load_faces("ckplus", tmp_path).sha256
    for copy in (
        "S132_001_00000005 copy.png",
        "S132_001_00000009.png",
        "thumb.png",
    ):  # or lies behind the label
        shutil.copyfile(tmp_path / FRAMES / "S132_001_00000004.png", tmp_path / FRAMES / copy)
    assert load_faces("ckplus", tmp_path).sha256 == sha256


@pytest.mark.parametrize("case", BAD_CK)
def test_bad_original_ck(case, tiny_ck, tmp_path):
    name, change, words = BAD_CK[case]
    write_ck_original(tmp_path, tiny_ck)
    change(tmp_path / name)
    before = tree(tmp_path)
    refused(lambda: load_faces("ckplus", tmp_path), str(tmp_path), *words)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("anger/face1.png", ["face1.png", "S132_006_00000023.png", "restore"]),
        ("neutral/S005_009_00000001.png", ["neutral", "rename it to one of anger", "contempt", "move it"]),
    ],
)
def test_bad_ck48(name, words, tiny_ck, tmp_path):
    write_ck48(tmp_path, tiny_ck)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    Image.new("L", (48, 48)).save(tmp_path / name)
    refused(lambda: load_faces("ckplus", tmp_path), str(tmp_path), *words)


def test_ck_as_a_table_is_refused_with_the_reason(tmp_path):
    (tmp_path / "CK+").mkdir()
    (tmp_path / "CK+/ckextended.csv").write_text("emotion,pixels,Usage\n")
    refused(
        lambda: load_faces("ckplus", tmp_path),
        "ckextended.csv",
        "people apart",
        "use the class folders CK+48",
    )


# --- asking for what is not there -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fer2013", ["Kaggle", "icml_face_data.csv", "train/ and test/"]),
        ("ckplus", ["Pittsburgh", "CK+48"]),
    ],
)
def test_missing_data_says_where_it_looked_and_how_to_get_it(name, words, tmp_path, monkeypatch):
    words = [f"{name}: ", "demo and demo-ck need nothing", *words]
    refused(lambda: load_faces(name), "FERCOMPANION_DATA is not set", *words)
    refused(lambda: load_faces(name, tmp_path), f"not found in {tmp_path} (the folder given)", *words)
    refused(lambda: load_faces(name, tmp_path / "x"), "x (the folder given) is not a folder", *words)
    monkeypatch.setenv("FERCOMPANION_DATA", str(tmp_path))
    refused(lambda: load_faces(name), f"not found in {tmp_path} (FERCOMPANION_DATA)", *words)


@pytest.mark.parametrize(
    ("name", "guess"),
    [
        ("FER-2013", "fer2013"),
        ("ck+", "ckplus"),
        ("demo_ck", "demo-ck"),
    ],
)
def test_unknown_name(name, guess):
    refused(lambda: load_faces(name), repr(name), f"did you mean {guess!r}", "demo, demo-ck, fer2013, ckplus")
    refused(lambda: load_faces("xyz"), "'xyz'. The data sets are demo, demo-ck, fer2013, ckplus")


# --- the real data, where FERCOMPANION_DATA says they are -----------------------------------------


@pytest.fixture(scope="module")
def real():
    if not REAL:
        pytest.skip("FERCOMPANION_DATA is not set")
    loaded = {}

    def load(name):
        if name not in loaded:
            try:
                loaded[name] = load_faces(name, REAL)
            except DataError as error:
                pytest.skip(str(error))
        return loaded[name]

    return load


def test_real_fer2013(real):
    faces = real("fer2013")
    assert [len(faces.where(split)) for split in SPLITS] == [28709, 3589, 3589]
    assert np.bincount(faces.labels[faces.where("PublicTest")]).tolist() == [467, 56, 496, 895, 653, 415, 607]
    assert len(set(faces.digests().tolist())) == 34034 and len(set(faces.source.tolist())) == 35887
    assert clean_mask(faces)[faces.where("PrivateTest")].sum() == 3301
    assert clean_mask(faces)[faces.where("PublicTest")].sum() == 3589 - 280


def test_real_ckplus(real):
    faces = real("ckplus")
    assert len(faces) == 981 and len(set(faces.subject)) == 118 and len(set(faces.sequence)) == 327
    assert np.bincount(faces.labels).tolist() == [135, 177, 75, 207, 84, 249, 54]


def test_csv_files_are_found_in_any_case(tiny, tmp_path):
    path = write_csv(tmp_path, tiny)
    path.rename(path.with_name(path.name.upper()))
    assert len(load_faces("fer2013", tmp_path)) == len(tiny)


def test_another_folder_called_test_is_not_fer2013(tmp_path):
    (tmp_path / "test" / "results").mkdir(parents=True)
    with pytest.raises(DataError, match="Kaggle"):
        load_faces("fer2013", tmp_path)


def test_images_in_a_folder_of_a_class_folder_are_not_left_out_silently(tiny, tmp_path):
    write_folders(tmp_path, tiny)
    deep = next(tmp_path.rglob("train")) / "angry" / "part2"
    deep.mkdir()
    next(tmp_path.rglob("train/angry/*.png")).rename(deep / "Training_99999.png")
    with pytest.raises(DataError, match="part2.*folder of a class folder.*move them up into angry/"):
        load_faces("fer2013", tmp_path)
