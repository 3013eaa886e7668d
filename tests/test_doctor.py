"""The doctor: what it counts, what it prints, and the exit status it gives."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from fercompanion import doctor as doctor_module
from fercompanion.data import CK_CLASSES, FER_CLASSES, DataError, Faces, load_faces
from fercompanion.doctor import doctor, examine, machine, report

REAL = os.environ.get("FERCOMPANION_DATA")


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    monkeypatch.delenv("FERCOMPANION_DATA", raising=False)


def faces_of(rows, name="fer2013", classes=FER_CLASSES):
    """Faces from (picture number, label, split); picture 0 is constant, the others are noise."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (9, 48, 48), np.uint8)
    pictures[0] = 0
    number, label, split = zip(*rows, strict=True)
    blank = np.array([""] * len(rows))
    return Faces(
        name=name,
        images=pictures[list(number)],
        labels=np.array(label, np.int64),
        classes=classes,
        split=np.array(split),
        subject=blank,
        sequence=blank,
        layout="test",
        truth=None,
        source=np.array([f"x:{k}" for k in range(len(rows))]),
    )


@pytest.fixture
def copies():
    return faces_of(
        [
            (1, 0, "Training"),
            (1, 0, "Training"),
            (2, 1, "Training"),
            (3, 1, "Training"),
            (1, 0, "PublicTest"),
            (2, 5, "PublicTest"),
            (4, 2, "PublicTest"),
            (3, 1, "PrivateTest"),
            (4, 2, "PrivateTest"),
            (5, 6, "PrivateTest"),
            (0, 6, "PrivateTest"),
        ]
    )


def test_examine_counts_copies_leaks_and_conflicts(copies):
    found = examine(copies)
    assert found["n"] == 11 and found["distinct"] == 6 and found["surplus_copies"] == 5
    assert found["copy_groups"] == 4 and found["groups_across_splits"] == 4
    assert found["groups_with_label_conflict"] == 1 and found["constant"] == 1
    assert found["copies_of_training"] == {"PublicTest": 2, "PrivateTest": 1}
    assert found["counts"]["Training"]["anger"] == 2 and found["counts"]["PrivateTest"]["neutral"] == 2
    assert found["counts_match"] is False and found["sha256"] == copies.sha256
    assert json.loads(json.dumps(found)) == found


def test_without_official_splits_there_is_one_column():
    found = examine(faces_of([(1, 6, ""), (2, 6, "")], "ckplus", CK_CLASSES))
    assert list(found["counts"]) == ["all"] and found["counts"]["all"]["contempt"] == 2
    assert found["copies_of_training"] == {"PublicTest": 0, "PrivateTest": 0}
    assert set(found["differing"]) == {"subjects", "sequences"}


def test_a_set_without_published_counts_is_not_judged():
    found = examine(faces_of([(1, 0, "Training")], "demo"))
    assert found["expected_counts"] is None and found["counts_match"] is None and found["differing"] == []


def test_report_is_narrow_and_says_what_is_wrong(copies):
    text = report(copies)
    assert max(map(len, text.splitlines())) <= 100
    assert "NOT as published" in text and "28,709" in text
    assert "2 PublicTest and 1 PrivateTest images have an exact copy in Training" in text
    assert "1 carry different labels" in text


def write_small_ck(folder):
    for name in CK_CLASSES:
        (folder / name).mkdir(parents=True)
        Image.new("L", (48, 48), 9).save(folder / name / "S005_001_00000001.png")


def test_missing_data_fail_only_when_asked_for(tmp_path, capsys, monkeypatch):
    def only_demo(name, root=None):
        return faces_of([(1, 0, "Training")], name) if name.startswith("demo") else load_faces(name, root)

    monkeypatch.setattr(doctor_module, "load_faces", only_demo)
    assert doctor(root=tmp_path) == 0
    text = capsys.readouterr().out
    assert "demo: 1 images" in text and "fer2013: not found" in text and "ckplus: not found" in text
    assert "Kaggle" in text and "Pittsburgh" in text and "machine: " in text
    assert max(map(len, text.splitlines())) <= 100
    assert doctor(["demo"], tmp_path) == 0
    assert doctor(["demo", "fer2013"], tmp_path) == 1


def test_an_error_without_the_name_is_given_it(monkeypatch, capsys):
    def broken(name, root=None):
        raise DataError(f"{name}.png: the sheet cannot be read; reinstall the package.")

    monkeypatch.setattr(doctor_module, "load_faces", broken)
    assert doctor(["demo"]) == 1
    assert "demo: demo.png: the sheet cannot be read" in capsys.readouterr().out


def test_incomplete_or_unknown_data_fail(tmp_path, capsys):
    write_small_ck(tmp_path)
    assert doctor(["ckplus"], tmp_path) == 1
    assert "NOT as published" in capsys.readouterr().out
    assert doctor(["fer"], tmp_path) == 1
    assert "did you mean 'fer2013'" in capsys.readouterr().out


def test_machine_is_one_line_with_and_without_facenet(monkeypatch):
    line = machine()
    assert "\n" not in line and "torch 2" in line and "facenet-pytorch" in line and "CPU bf16 " in line
    monkeypatch.setattr(doctor_module.importlib.util, "find_spec", lambda name: None)
    assert machine().endswith("facenet-pytorch no")


@pytest.mark.skipif(not REAL, reason="FERCOMPANION_DATA is not set")
@pytest.mark.parametrize("name", ["fer2013", "ckplus"])
def test_real_data_are_as_published(name):
    try:
        found = examine(load_faces(name, REAL))
    except DataError as error:
        pytest.skip(str(error))
    assert found["counts_match"] and found["differing"] == []
    if name == "fer2013":
        assert found["copies_of_training"] == {"PublicTest": 280, "PrivateTest": 288}
        assert found["distinct"] == 34034 and found["surplus_copies"] == 1853
        assert found["copy_groups"] == 1516 and found["groups_across_splits"] == 557
        assert found["groups_with_label_conflict"] == 57 and found["constant"] == 12
