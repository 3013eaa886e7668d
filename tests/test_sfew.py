"""SFEW 2.0: the folders it comes in, made here from demo faces, and its union with FER2013 (DNNRL's Table 3)."""

import numpy as np
import pytest
from conftest import few
from PIL import Image

from fercompanion.data import FER_CLASSES, DataError, clean_mask, load_faces
from fercompanion.doctor import doctor
from fercompanion.protocols import parts

CLASSES = ("Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise", "Neutral")  # as FER_CLASSES
LAYOUTS = {  # folders of the training and the validation part
    "as unpacked": ("Train_Aligned_Faces", "Val_Aligned_Faces"),
    "val new": ("Train_Aligned_Faces", "Val_Aligned_Faces_new"),
    "in a folder": ("SFEW_2.0/Train_Aligned_Faces", "SFEW_2.0/Val_Aligned_Faces"),
    "in a folder with a blank": ("SFEW 2.0/images/Train_Aligned_Faces", "SFEW 2.0/images/Val_Aligned_Faces"),
    "a folder each": ("sfew/Train/Train_Aligned_Faces", "sfew/Val/Val_Aligned_Faces_new"),
    "unpacked twice": ("Train_Aligned_Faces/Train_Aligned_Faces", "Val_Aligned_Faces/Val_Aligned_Faces"),
    "lower case": ("train_aligned_faces", "val_aligned_faces"),
    "plain": ("SFEW/Train", "SFEW/Val"),
    "plain, lower case": ("sfew/train", "sfew/val"),
}


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    monkeypatch.delenv("FERCOMPANION_DATA", raising=False)


@pytest.fixture(scope="module")
def faces(demo):
    """14 demo faces to train on and 7 to validate, each class as often."""
    return few(demo, Training=14, PublicTest=7)


def write(root, faces, layout="as unpacked", size=(48, 48), mode="L", case=str, test=0):
    for split, place in zip(("Training", "PublicTest"), LAYOUTS[layout], strict=True):
        for k in faces.where(split):
            path = root / place / case(CLASSES[faces.labels[k]]) / f"Film_{k:04d}_00000005.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(faces.images[k]).resize(size, Image.Resampling.NEAREST).convert(mode).save(path)
    for k in range(test):
        path = root / "Test_Aligned_Faces" / f"Test_{k}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(faces.images[k]).save(path)
    return root


def write_fer2013(root, faces):
    rows = [
        f"{label},{' '.join(map(str, image.ravel()))},{split}"
        for image, label, split in zip(faces.images, faces.labels, faces.split, strict=True)
    ]
    (root / "fer2013.csv").write_text("\n".join(["emotion,pixels,Usage", *rows]) + "\n")
    return root


def as_set(faces):
    return {
        (i.tobytes(), k, s)
        for i, k, s in zip(faces.images, faces.labels.tolist(), faces.split.tolist(), strict=True)
    }


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_faces(layout, faces, tmp_path):
    found = load_faces("sfew", write(tmp_path, faces, layout))
    assert as_set(found) == as_set(faces) and found.sha256 == load_faces("sfew", tmp_path).sha256
    assert (found.name, found.classes) == ("sfew", FER_CLASSES)
    assert list(found.split) == ["Training"] * 14 + ["PublicTest"] * 7 and not len(found.where("PrivateTest"))
    assert len(set(found.source)) == 21 and found.images.shape == (21, 48, 48)


@pytest.mark.parametrize("case", [str.lower, str.upper])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_case_and_colour_do_not_matter(case, mode, faces, tmp_path):
    assert as_set(load_faces("sfew", write(tmp_path, faces, mode=mode, case=case))) == as_set(faces)


def test_other_sizes_are_reduced_by_area(faces, tmp_path):
    """143 x 181 as distributed; at three times the size the mean over each pixel's area is the face itself."""
    odd = load_faces("sfew", write(tmp_path / "a", faces, size=(143, 181)))
    assert odd.images.shape == (21, 48, 48)
    same = load_faces("sfew", write(tmp_path / "b", faces, size=(144, 144)))
    assert as_set(same) == as_set(faces)
    noise = np.random.default_rng(0).integers(0, 256, (96, 192), np.uint8)
    path = tmp_path / "b" / same.source[0]
    Image.fromarray(noise.T).save(path)
    mean = noise.T.reshape(48, 4, 48, 2).mean((1, 3))
    assert np.abs(load_faces("sfew", tmp_path / "b").images[0] - mean).max() <= 1


def test_unlabelled_test_faces_are_left_out_and_counted(faces, tmp_path):
    found = load_faces("sfew", write(tmp_path, faces, test=5))
    assert len(found) == 21 and "the 5 test faces, which have no labels, are left out" in found.layout
    assert "Train_Aligned_Faces/, Val_Aligned_Faces/" in found.layout and "48x48" in found.layout
    for path in (tmp_path / "Test_Aligned_Faces").iterdir():
        path.unlink()
    assert "test" not in load_faces("sfew", tmp_path).layout


def remove(path):
    for file in path.rglob("*.png"):
        file.unlink()


FIRST = "Train_Aligned_Faces/Angry/Film_0000_00000005.png"
BAD = {  # what is spoilt, how, the words of the one line
    "no validation part": (
        "Val_Aligned_Faces",
        lambda p: p.rename(p.with_name("x")),
        ["no Val_Aligned_Faces", "unpack"],
    ),
    "no training part": (
        "Train_Aligned_Faces",
        lambda p: p.rename(p.with_name("x")),
        ["no Train_Aligned_Faces", "unpack"],
    ),
    "no images": ("Val_Aligned_Faces", remove, ["Val_Aligned_Faces: ", "no images", "download"]),
    "unknown class": (
        "Train_Aligned_Faces/Angry",
        lambda p: p.rename(p.with_name("Joy")),
        ["Joy: ", "rename it to one of anger"],
    ),
    "damaged": ("Train_Aligned_Faces", None, ["cannot be read", "download"]),
}


@pytest.mark.parametrize("case", BAD)
def test_defects_are_one_line(case, faces, tmp_path):
    name, spoil, words = BAD[case]
    write(tmp_path, faces)
    spoil = spoil or (lambda p: next(p.rglob("*.png")).write_bytes(b"x"))
    spoil(tmp_path / name)
    refused(tmp_path, *words)


def test_film_frames_are_refused(faces, tmp_path):
    """The challenge's Train/ and Val/ hold whole frames beside the aligned faces."""
    write(tmp_path, faces, "plain", size=(720, 576))
    refused(tmp_path, "720x576", "whole film frame", "Train_Aligned_Faces")
    for name, part in (("Train", "Train_Aligned_Faces"), ("Val", "Val_Aligned_Faces")):
        target = tmp_path / "SFEW" / name / part
        write(tmp_path / "b", faces)
        (tmp_path / "b" / part).rename(target)
    assert as_set(load_faces("sfew", tmp_path)) == as_set(faces)


def refused(root, *words, name="sfew"):
    with pytest.raises(DataError) as caught:
        load_faces(name, root)
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".") and str(root) in message
    assert all(word in message for word in words), message


def test_what_is_not_there_says_how_to_get_it(faces, tmp_path):
    refused(tmp_path, "sfew: not found", "EmotiW", "Train_Aligned_Faces")
    with pytest.raises(DataError, match="FERCOMPANION_DATA is not set.*EmotiW"):
        load_faces("sfew")
    # FER2013's own train/ is not taken for SFEW's, unless the folder says SFEW.
    write(tmp_path / "fer2013", faces, "plain")
    (tmp_path / "fer2013" / "SFEW").rename(tmp_path / "fer2013" / "faces")
    refused(tmp_path / "fer2013" / "faces", "sfew: not found")


def test_doctor_knows_it(faces, tmp_path, capsys):
    write(tmp_path, faces, test=3)
    assert doctor(["sfew"], tmp_path) == 0
    text = capsys.readouterr().out
    assert "sfew: 21 images" in text and "3 test faces" in text and "PublicTest" in text
    assert "published" not in text  # the counts of the aligned faces are nowhere printed
    assert max(map(len, text.splitlines())) <= 100


# --- FER2013 + SFEW -------------------------------------------------------------------------------


def test_union_adds_training_faces_alone(demo, faces, tmp_path):
    """Table 3's training set: selection and test stay FER2013's."""
    fer = few(demo, Training=21, PublicTest=14, PrivateTest=7)
    write(write_fer2013(tmp_path, fer), faces)
    both = load_faces("fer2013+sfew", tmp_path)
    assert [len(both.where(s)) for s in ("Training", "PublicTest", "PrivateTest")] == [21 + 14, 14, 7]
    added = faces.subset(faces.where("Training"))
    assert as_set(both) == as_set(fer) | as_set(added)
    assert len(set(both.source)) == len(both) and both.name == "fer2013+sfew"
    assert both.source[0] == "fer2013/fer2013.csv:2" and both.source[-1].startswith(
        "sfew/Train_Aligned_Faces/"
    )
    assert "FER2013: one CSV file" in both.layout and "SFEW 2.0" in both.layout
    assert both.sha256 != load_faces("fer2013", tmp_path).sha256
    who = parts(both, "official")
    assert (len(who.train), len(who.valid), len(who.test)) == (35, 14, 7)
    assert np.array_equal(both.images[who.test], fer.images[fer.where("PrivateTest")])
    assert clean_mask(both).shape == (len(both),)


def test_union_needs_both(faces, tmp_path):
    write(tmp_path, faces)
    refused(tmp_path, "fer2013: not found", name="fer2013+sfew")
    write_fer2013(tmp_path, faces)
    for part in tmp_path.glob("*_Aligned_Faces"):
        part.rename(tmp_path / f"x{part.name}")
    refused(tmp_path, "sfew: not found", name="fer2013+sfew")
