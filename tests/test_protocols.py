"""Who trains and who tests: partitions, groups that stay together, and errors."""

from dataclasses import replace

import numpy as np
import pytest

from fercompanion.data import DataError
from fercompanion.doctor import EXPECTED_COUNTS
from fercompanion.protocols import (
    PROTOCOLS,
    frame_folds,
    parts,
    random_splits,
    sequence_folds,
    subject_folds,
)

FOLDS = {"subject": subject_folds, "sequence": sequence_folds, "frame": frame_folds}


def groups(faces, protocol):
    return {"subject": faces.subject, "sequence": faces.sequence, "frame": faces.source}[protocol]


@pytest.fixture
def uneven(demo_ck):
    """demo-ck with three quarters of its images, so that people have unlike numbers of them."""
    return demo_ck.subset(np.random.default_rng(0).random(len(demo_ck)) < 0.75)


@pytest.mark.parametrize("n_folds", [2, 7, 10])
@pytest.mark.parametrize("protocol", FOLDS)
def test_folds_partition_and_keep_groups_together(uneven, protocol, n_folds):
    found = FOLDS[protocol](uneven, n_folds)
    assert len(found) == n_folds
    group = groups(uneven, protocol)
    for train, test in found:
        assert train.dtype == test.dtype == np.int64 and len(test)
        np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(len(uneven)))
        assert not set(group[train]) & set(group[test])
    tested = np.concatenate([test for _, test in found])
    np.testing.assert_array_equal(np.sort(tested), np.arange(len(uneven)))


@pytest.mark.parametrize("n_folds", [2, 7, 10])
@pytest.mark.parametrize("protocol", FOLDS)
def test_folds_are_balanced(uneven, protocol, n_folds):
    """No two folds differ by more than one group."""
    sizes = [len(test) for _, test in FOLDS[protocol](uneven, n_folds)]
    average = len(uneven) / len(set(groups(uneven, protocol)))
    assert max(sizes) - min(sizes) <= average


@pytest.mark.parametrize("protocol", FOLDS)
def test_ten_folds_of_demo_ck_are_equal(demo_ck, protocol):
    assert {len(test) for _, test in FOLDS[protocol](demo_ck)} == {90}


@pytest.mark.parametrize("protocol", FOLDS)
def test_folds_follow_the_seed(demo_ck, protocol):
    def tests(seed):
        return [test.tolist() for _, test in FOLDS[protocol](demo_ck, 10, seed)]

    assert tests(0) == tests(0)
    assert tests(0) != tests(1)


def test_people_stay_in_their_fold_when_files_are_read_in_another_order(uneven):
    order = np.random.default_rng(1).permutation(len(uneven))
    turned = uneven.subset(order)
    for (_, test), (_, other) in zip(subject_folds(uneven), subject_folds(turned), strict=True):
        assert set(order[other]) == set(test)


def test_weaker_protocols_let_people_and_sequences_through(demo_ck):
    """Why they are told apart: sequence folds share people, and frame folds share sequences."""
    for train, test in sequence_folds(demo_ck):
        assert set(demo_ck.subject[train]) & set(demo_ck.subject[test])
    for train, test in frame_folds(demo_ck):
        assert np.isin(demo_ck.sequence[test], demo_ck.sequence[train]).mean() > 0.9


@pytest.mark.parametrize("protocol", FOLDS)
def test_parts_of_a_fold(demo_ck, protocol):
    """The run's fold trains and tests; nothing is selected on."""
    for k in (0, 4):
        train, test = FOLDS[protocol](demo_ck, 5)[k]
        found = parts(demo_ck, protocol, k, 5)
        np.testing.assert_array_equal(found.train, train)
        np.testing.assert_array_equal(found.test, test)
        assert found.valid.shape == (0,) and found.valid.dtype == np.int64


def test_official_parts(demo):
    found = parts(demo, "official")
    for rows, split, n in (
        (found.train, "Training", 1540),
        (found.valid, "PublicTest", 280),
        (found.test, "PrivateTest", 280),
    ):
        assert len(rows) == n and set(demo.split[rows]) == {split}
        assert rows.dtype == np.int64 and len(set(rows.tolist())) == n


def test_official_parts_need_splits(demo, demo_ck):
    with pytest.raises(DataError, match="demo-ck has no official splits.*subject"):
        parts(demo_ck, "official")
    with pytest.raises(DataError, match="demo has no Training, which"):
        parts(demo.subset(demo.where("PrivateTest")), "official")
    sfew = replace(demo.subset(demo.where("Training")), name="sfew")
    with pytest.raises(DataError, match=r"sfew has no PrivateTest.*as fer2013\+sfew"):
        parts(sfew, "official")


def test_errors(demo, demo_ck):
    with pytest.raises(DataError, match="demo does not name its sequences"):
        sequence_folds(demo)
    unnamed = replace(demo_ck, subject=np.where(np.arange(900) == 5, "", demo_ck.subject))
    with pytest.raises(DataError, match="does not name its subjects"):
        subject_folds(unnamed)
    with pytest.raises(DataError, match="60 subjects: too few for 61"):
        subject_folds(demo_ck, 61)
    assert len(subject_folds(demo_ck, 60)) == 60
    with pytest.raises(DataError, match="'person'.*" + ", ".join(PROTOCOLS)):
        parts(demo_ck, "person")


def test_random_splits_are_800_and_181_of_ck(demo_ck):
    """Kim et al. Sect. 3, on as many frames as CK+ has."""
    assert sum(EXPECTED_COUNTS["ckplus"]["all"].values()) == 981
    like_ck = demo_ck.subset(np.arange(981) % len(demo_ck))
    for train, test in random_splits(like_ck, 3):
        assert (len(train), len(test)) == (800, 181) and train.dtype == test.dtype == np.int64
        np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(981))
        assert (np.diff(train) > 0).all() and (np.diff(test) > 0).all()
    assert len(random_splits(demo_ck, 1)[0][0]) == round(800 / 981 * 900)


def test_random_splits_are_independent_draws(demo_ck):
    """No partition: any two test sets share about a fifth squared of the frames, and each has its own."""
    draws = [set(test.tolist()) for _, test in random_splits(demo_ck, 40)]
    shared = [len(a & b) for k, a in enumerate(draws) for b in draws[:k]]
    assert np.mean(shared) == pytest.approx(166**2 / 900, rel=0.05)
    counts = np.bincount([row for test in draws for row in test], minlength=900)
    assert counts.var() == pytest.approx(40 * 166 / 900 * (1 - 166 / 900), rel=0.25)  # binomial, not constant


def test_random_draws_do_not_depend_on_their_number(demo_ck):
    ten = random_splits(demo_ck, 10)
    for n_folds in (4, 100):
        found = parts(demo_ck, "random", 3, n_folds)
        np.testing.assert_array_equal(found.train, ten[3][0])
        np.testing.assert_array_equal(found.test, ten[3][1])
        assert found.valid.shape == (0,) and found.valid.dtype == np.int64
    np.testing.assert_array_equal(parts(demo_ck, "random", 0, 1).test, ten[0][1])
    assert random_splits(demo_ck, 1, seed=1)[0][1].tolist() != ten[0][1].tolist()


def test_random_split_errors(demo_ck):
    with pytest.raises(DataError, match="1 frames: too few"):
        random_splits(demo_ck.subset([0]), 1)
    for fold, n_folds in ((3, 3), (-1, 3), (0, 0)):
        with pytest.raises(DataError, match="no fold"):
            parts(demo_ck, "random", fold, n_folds)
