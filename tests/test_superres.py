"""Enlarging: sizes, bytes, caches, and that the generator earns its name."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import few
from PIL import Image

from fercompanion import superres
from fercompanion.data import DataError
from fercompanion.landmarks import cache_dir
from fercompanion.predict import this_machine
from fercompanion.superres import SETTINGS, Discriminator, Generator, enlarge, half, quality

TINY = replace(
    SETTINGS["srgan-small"],
    blocks=1,
    channels=8,
    critic=4,
    content_steps=3,
    adversarial_steps=2,
    batch_size=2,
    patch=16,
)


@pytest.fixture
def machine():
    return this_machine("cpu", bf16=False)


@pytest.fixture
def tiny(monkeypatch):
    """ "srgan-small" with a network that trains at once."""
    monkeypatch.setitem(superres.SETTINGS, "srgan-small", TINY)


def test_original_faces_stay_as_they_are(demo):
    assert enlarge(demo, "original") is demo


@pytest.mark.parametrize("how", ["bicubic", "srgan-small"])
def test_enlarged_faces(demo, how, tiny, machine):
    faces = few(demo, Training=14, PublicTest=7)
    big = enlarge(faces, how, machine)
    assert big.images.shape == (21, 96, 96) and big.images.dtype == np.uint8
    assert np.array_equal(big.labels, faces.labels) and np.array_equal(big.split, faces.split)
    assert big.sha256 != faces.sha256
    # the content stays where it was: halved again they are near the faces, and so are the landmarks
    assert np.abs(half(big.images).astype(int) - faces.images).mean() < 3
    np.testing.assert_allclose((big.truth + 0.5) / 2, faces.truth + 0.5)


def test_bicubic_is_pillows(demo):
    image = demo.images[0]
    pillow = np.asarray(Image.fromarray(image).resize((96, 96), Image.Resampling.BICUBIC))
    assert np.abs(superres.bicubic_twice(image[None])[0].astype(int) - pillow).max() <= 1


def test_half_is_the_mean_of_four():
    image = np.array([[[0, 4, 10, 10], [4, 8, 10, 12]]], np.uint8)
    assert half(image).tolist() == [[[4, 10]]]


def test_unknown_ways_are_refused(demo):
    with pytest.raises(DataError, match="original, bicubic, srgan, srgan-small"):
        enlarge(demo, "esrgan")


def test_the_papers_generator_and_discriminator():
    """Ledig et al., Fig. 4: 16 blocks of 64 channels; eight convolutions to 512 channels, a sixteenth of the side."""
    with torch.device("meta"):
        model, critic = (
            Generator(**{k: getattr(SETTINGS["srgan"], k) for k in ("blocks", "channels")}),
            Discriminator(),
        )
        assert model(torch.zeros(2, 1, 24, 24)).shape == (2, 1, 48, 48)
        logit, features = critic(torch.zeros(2, 1, 48, 48))
    assert logit.shape == (2,) and features.shape == (2, 512, 3, 3)
    kernels = [m.kernel_size[0] for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    assert kernels == [9] + [3] * 32 + [3, 3, 9]
    strides = [m.stride[0] for m in critic.modules() if isinstance(m, torch.nn.Conv2d)]
    assert strides == [1, 2] * 4


def test_an_untrained_generator_is_bicubic(demo, machine):
    big = superres.enlarge_images(Generator(1, 8).eval(), demo.images[:3], machine)
    assert np.array_equal(big, superres.bicubic_twice(demo.images[:3]))


def test_same_seed_same_generator(demo, machine):
    images = demo.images[:8]
    torch.manual_seed(1)
    first = superres.train(images, TINY, machine).state_dict()
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = superres.train(images, TINY, machine).state_dict()
    assert torch.equal(torch.get_rng_state(), state)  # nobody else's random numbers are used up
    other = superres.train(images, replace(TINY, seed=1), machine).state_dict()
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert not torch.equal(first["head.0.weight"], other["head.0.weight"])


def test_both_phases_train(demo, machine):
    """The adversarial phase moves the generator too, and every part of its loss counts."""
    images = demo.images[:8]

    def tail(**changes):
        return superres.train(images, replace(TINY, content_steps=1, **changes), machine).tail.weight

    start = tail(adversarial_steps=0)
    runs = [tail(adversarial_steps=2, perceptual=p, adversarial=a) for p, a in ((0, 0), (1, 0), (0, 1))]
    assert start.abs().max() > 0
    assert len({tuple(w.flatten().tolist()) for w in (start, *runs)}) == 4


def test_only_training_images_are_learnt_from(demo, tiny, machine, monkeypatch):
    seen = []
    monkeypatch.setattr(
        superres, "train", lambda images, *_: seen.append(images) or Generator(TINY.blocks, TINY.channels)
    )
    faces = few(demo, Training=14, PublicTest=7, PrivateTest=7)
    superres.generator(faces, "srgan-small", machine)
    assert np.array_equal(seen[0], faces.images[faces.where("Training")])
    no_splits = replace(faces, split=np.full(len(faces), ""))
    superres.generator(no_splits, "srgan-small", machine)
    assert len(seen[1]) == len(faces)


def test_generators_and_images_are_kept(demo, tiny, machine, monkeypatch):
    faces = few(demo, Training=14)
    first = enlarge(faces, "srgan-small", machine)
    assert sorted(p.suffix for p in cache_dir().iterdir()) == [".npy", ".pt"]
    monkeypatch.setattr(superres, "train", None)  # would raise if called
    assert np.array_equal(enlarge(faces, "srgan-small", machine).images, first.images)
    next(cache_dir().glob("enlarged*")).unlink()
    assert np.array_equal(enlarge(faces, "srgan-small", machine).images, first.images)
    with pytest.raises(TypeError):  # other images, another generator
        enlarge(few(demo, Training=15), "srgan-small", machine)
    monkeypatch.setitem(superres.SETTINGS, "srgan-small", replace(TINY, lr=1e-3))
    with pytest.raises(TypeError):  # other settings too
        enlarge(faces, "srgan-small", machine)


@pytest.mark.parametrize("kind", ["enlarged", "generator"])
def test_a_broken_cache_says_so(demo, tiny, machine, kind):
    faces = few(demo, Training=14)
    enlarge(faces, "srgan-small", machine)
    if kind == "generator":
        next(cache_dir().glob("enlarged*")).unlink()
    path = next(cache_dir().glob(f"{kind}*"))
    path.write_bytes(b"broken")
    with pytest.raises(DataError, match="delete it and run again") as error:
        enlarge(faces, "srgan-small", machine)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["enlarged", "generator"])
def test_a_cache_that_may_not_be_read_is_not_broken(demo, tiny, machine, monkeypatch, kind):
    faces = few(demo, Training=14)
    enlarge(faces, "srgan-small", machine)
    if kind == "generator":
        next(cache_dir().glob("enlarged*")).unlink()

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(*((superres.np, "load") if kind == "enlarged" else (torch, "load")), refuse)
    with pytest.raises(
        DataError, match=f"{kind}.*cannot be read .Permission denied.; look at its permissions"
    ):
        enlarge(faces, "srgan-small", machine)


def test_a_cache_that_cannot_be_written_is_found_out_before_the_training(demo, tiny, monkeypatch, tmp_path):
    monkeypatch.setattr(superres, "train", lambda *_: pytest.fail("it was trained"))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FERCOMPANION_CACHE", str(tmp_path / "file"))
    for call in (enlarge, superres.generator):
        with pytest.raises(DataError, match="set FERCOMPANION_CACHE to a folder that can be written"):
            call(few(demo, Training=14), "srgan-small")


def test_copies_stay_copies(demo, tiny, machine):
    faces = demo.subset(np.array([0, 700, 0, 3, 700]))
    images = enlarge(faces, "srgan-small", machine).images
    assert np.array_equal(images[0], images[2]) and np.array_equal(images[1], images[4])
    assert not np.array_equal(images[0], images[1])


def test_quality_against_the_formula(demo):
    faces = few(demo, PublicTest=14)
    got = quality(faces, "bicubic")
    images = faces.images
    error = superres.bicubic_twice(half(images)).astype(float) - images
    psnr = 10 * np.log10(255**2 / (error**2).mean((1, 2)))
    np.testing.assert_allclose(got["PSNR"], psnr, rtol=1e-4)
    assert got["SSIM"].shape == (14,) and (got["SSIM"] > 0.7).all() and (got["SSIM"] < 1).all()


def test_constant_images_have_no_quality(demo):
    faces = few(demo, PublicTest=7)
    faces.images[0] = 9  # few() copied them
    assert len(quality(faces, "bicubic")["PSNR"]) == 6


def test_a_few_steps_beat_bicubic(demo, machine, monkeypatch):
    """On people that the generator has not seen, halved and enlarged again: nearer to the truth than bicubic."""
    settings = replace(TINY, content_steps=80, adversarial_steps=0, batch_size=4, patch=24, lr=1e-3)
    monkeypatch.setitem(superres.SETTINGS, "srgan-small", settings)
    faces = few(demo, Training=140, PublicTest=28)
    gain = quality(faces, "srgan-small", machine)["PSNR"] - quality(faces, "bicubic")["PSNR"]
    assert gain.mean() > 0.1 and (gain > 0).mean() > 0.8


def test_a_generator_that_diverged_is_not_kept(demo, machine, monkeypatch):
    """Its faces would be black, and every later run would train on them."""
    monkeypatch.setitem(superres.SETTINGS, "srgan-small", replace(TINY, lr=1e30))
    faces = few(demo, Training=14)
    with pytest.raises(
        FloatingPointError, match="srgan-small for demo: the generator's weights are not finite"
    ):
        enlarge(faces, "srgan-small", machine)
    assert not superres.at_hand(faces, "srgan-small")
