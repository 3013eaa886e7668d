"""Grad-CAM: against the formula, which faces it takes, and what is kept of it."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import few, settled, true_landmarks
from torchvision.transforms.functional import center_crop

from fercompanion import explain
from fercompanion.data import DataError
from fercompanion.models import build_model
from fercompanion.predict import make_masks, predict, this_machine, to_stack
from fercompanion.recipes import OURS, arm
from fercompanion.runs import Result
from fercompanion.siblings import sibling_arm

WIDTH = 0.08


def network(faces, name):
    """An untrained network, its recipe, and image and mask of all faces."""
    recipe = arm(OURS, name, width=WIDTH)
    torch.manual_seed(0)
    model = build_model(recipe.model, 7, **recipe.model_options())
    marks = true_landmarks(faces)
    masks = None if recipe.mask == "none" else make_masks(faces, marks, recipe.mask, 0.3, np.arange(4))
    image, mask = to_stack(faces.images, masks, "cpu")
    settled(model, *cropped(image, mask))
    return model, recipe, marks, image, mask


def cropped(image, mask):
    """What the network is shown of them."""
    return center_crop(image, [44]).float() / 255, None if mask is None else center_crop(mask, [44])


def by_hand(model, image, mask):
    """Selvaraju et al. 2017, Eqs. 1 and 2: the map's channels, weighted by their mean gradients, where positive."""
    kept = []
    hook = model.trunk[3].register_forward_hook(lambda module, given, out: kept.append(out))
    logits = model(image, mask).logits
    hook.remove()
    (gradient,) = torch.autograd.grad(logits.log_softmax(1).max(1).values.sum(), kept[0])
    heat = (gradient.mean((2, 3), keepdim=True) * kept[0]).sum(1, keepdim=True).relu()
    heat = F.interpolate(heat, image.shape[-2:], mode="bilinear")[:, 0].detach()
    low, high = heat.amin((1, 2), keepdim=True), heat.amax((1, 2), keepdim=True)
    return ((heat - low) / (high - low)).numpy()


@pytest.mark.parametrize("name", ["vgg19", "lkrnet"])
def test_grad_cam_is_the_formula(demo, name):
    faces = few(demo, Training=4, PrivateTest=5)
    model, recipe, marks, image, mask = network(faces, name)
    rows = np.array([8, 4, 6])
    cams, predicted = explain.grad_cam(model, recipe, faces, marks, rows, batch_size=2)

    expected = by_hand(model, *cropped(image[rows], None if mask is None else mask[rows]))
    assert cams.dtype == np.float32 and cams.shape == (3, 44, 44) and expected.max() > 0.5
    assert np.abs(cams - expected).max() < 2e-3
    logits, _ = predict(model, image, mask, this_machine("cpu", bf16=False), recipe)
    assert predicted.tolist() == logits[rows].argmax(1).tolist()
    assert all(p.requires_grad and p.grad is None for p in list(model.parameters())[:4])


def test_heat_that_would_not_lie_on_the_face_is_refused(demo):
    """Kim et al.'s blocks see the transformed face; model A has none of VGG19's."""
    faces, row = few(demo, Training=4, PrivateTest=5), np.array([4])
    for paper, name in (("kim", "kim"), ("liu", "liu-a")):
        recipe = sibling_arm(paper, name, width=WIDTH)
        model = build_model(recipe.model, 7, **recipe.model_options())
        with pytest.raises(DataError, match="heat maps are of LKRNet's networks"):
            explain.grad_cam(model, recipe, faces, None, row)
    model, recipe, marks, image, mask = network(faces, "lkrnet")
    with pytest.raises(DataError, match="needs the faces' landmarks"):
        explain.grad_cam(model, recipe, faces, None, row)
    with pytest.raises(DataError, match="networks without a mask"):
        explain.guided_backprop(model, recipe, faces, row)
    with pytest.raises(ValueError, match="view='tencorp': choose"):
        predict(model, image, mask, this_machine(), recipe, "tencorp")


def test_a_mean_mask_without_training_images_is_refused(demo):
    """A mean of nothing would be nan, and so would all heat maps."""
    faces = few(demo, PrivateTest=5)
    model, recipe, marks, _, _ = network(faces, "lkrnet-mean-mask")
    with pytest.raises(DataError, match="demo: mask='mean' .* no official splits; choose another arm"):
        explain.grad_cam(model, recipe, faces, marks, np.array([0]))


def test_mass_in_regions(demo):
    faces = few(demo, PrivateTest=3)
    marks, rows = true_landmarks(faces), np.array([2, 0])
    cams = np.zeros((2, 44, 44), np.float32)
    x, y = marks.points[2, 2].round().astype(int) - 2  # the nose, in the crop
    cams[0, y, x] = 0.7
    share = explain.mass_in_regions(cams, marks, rows)
    assert share[0] == 1 and np.isnan(share[1])
    cams[0, 0, 0] = 0.7  # a corner, far from all regions
    cams[1] = 1
    share = explain.mass_in_regions(cams, marks, rows)
    inside = make_masks(faces, marks, "regions", 0.3, rows)[0, 2:46, 2:46] > 0
    assert share == pytest.approx([0.5, inside.mean()])


def test_the_summary_is_kept_without_faces(demo, tmp_path):
    from safetensors.torch import save_file

    faces = few(demo, Training=4, PrivateTest=7)
    model, recipe, marks, _, _ = network(faces, "lkrnet")
    rows = faces.where("PrivateTest")
    info = {"recipe": vars(recipe), "data_sha256": faces.sha256}
    result = Result(json.loads(json.dumps(info)), tmp_path)
    np.savez(tmp_path / "predictions.npz", test_index=rows)
    assert explain.cam_summary(result, faces, marks) is None  # no weights
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    assert explain.cam_summary(result, None, None) is None  # no faces
    made = explain.cam_summary(result, faces, marks)
    assert made.means.shape == (7, 44, 44) and made.mass.shape == (7,)
    cams, _ = explain.grad_cam(model, recipe, faces, marks, rows)
    first = cams[faces.labels[rows] == 0]
    assert np.abs(made.means[0] - first.mean(0)).max() < 1e-3
    assert made.uniform == pytest.approx(
        explain.mass_in_regions(np.ones((7, 44, 44), np.float32), marks, rows).mean()
    )
    assert np.allclose(made.points, np.median(marks.points[rows], 0) - 2)  # 44 of 48 pixels
    (tmp_path / "weights.safetensors").unlink()
    kept = explain.cam_summary(result, None, None)
    assert np.array_equal(kept.means, made.means) and np.array_equal(kept.mass, made.mass)
    assert kept.uniform == made.uniform and np.array_equal(kept.points, made.points)


def test_maps_without_heat_have_no_part_in_the_mean():
    cams = np.zeros((4, 2, 2), np.float32)
    cams[0], cams[2] = 0.2, 0.6
    means = explain.class_means(cams, np.array([0, 0, 0, 1]), 3)
    assert means.dtype == np.float32 and means[:, 0, 0].tolist() == pytest.approx([0.4, 0, 0])
