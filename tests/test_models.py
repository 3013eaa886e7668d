"""LKRNet's networks: sizes, shapes, which branch sees what, and errors."""

import re
from pathlib import Path

import pytest
import torch
from conftest import settled
from torch import nn
from torchvision.models import vgg19 as torchvision_vgg19

import fercompanion
from fercompanion import models
from fercompanion.models import Output, build_model
from fercompanion.models.lkrnet import MASK_PLACES, Conv3x3
from fercompanion.models.output import standardised

TWO_BRANCHES = ("baseline1", "lkrnet")
SMALL = {"width": 0.0625}


def batch(n=3, size=44, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.rand(n, 1, size, size, generator=g), torch.rand(n, 1, size, size, generator=g)


def small(name="lkrnet", seed=0, **options):
    torch.manual_seed(seed)
    return settled(build_model(name, **SMALL | options), *batch(seed=1))


def count(module):
    return sum(p.numel() for p in module.parameters())


def shapes(module):
    """Shapes of convolutions' weights, and where the pools stand among them."""
    layers = [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.MaxPool2d)]
    return [tuple(m.weight.shape) if isinstance(m, nn.Conv2d) else "pool" for m in layers]


@pytest.mark.parametrize("mask_at", MASK_PLACES)
def test_features_are_vgg19s(mask_at):
    """16 convolutions and 5 pools in torchvision's order, 20,024,384 parameters, wherever the mask acts."""
    with torch.device("meta"):
        model = build_model("vgg19", batch_norm=False, mask_at=mask_at)
        theirs = torchvision_vgg19(weights=None).features
    features = nn.Sequential(model.trunk, model.tails["global"])
    assert count(features) == count(theirs) == 20_024_384
    assert shapes(features) == shapes(theirs)


def test_head_is_4096_256_7():
    """Fig. 3 and Sect. 3.2: two fully connected layers, then one for the classes."""
    with torch.device("meta"):
        model = build_model("vgg19", batch_norm=False)
    assert count(model) - 20_024_384 == (512 + 1) * 4096 + (4096 + 1) * 256 + (256 + 1) * 7


def test_batch_norm_follows_every_convolution():
    with torch.device("meta"):
        model = build_model("lkrnet", batch_norm=True, mask_at="conv4_4")
    layers = [type(m) for m in model.modules() if not list(m.children())]
    after = [layers[k + 1] for k, kind in enumerate(layers) if issubclass(kind, nn.Conv2d)]
    assert len(after) == 12 + 2 * 4 and set(after) == {nn.BatchNorm2d}


@pytest.mark.parametrize("size", [44, 48])
@pytest.mark.parametrize("name", ["vgg19", "baseline1", "baseline2", "lkrnet"])
def test_every_network_returns_the_same_output(name, size):
    image, mask = batch(size=size)
    two = name in TWO_BRANCHES
    for model in (small(name, num_classes=5), small(name, num_classes=5).train()):
        out = model(image, mask) if two else model(image)
        assert isinstance(out, Output)
        assert out.logits.shape == (3, 5) and len(out.branches) == 1 + two
        assert all(b.shape == (3, 5) for b in out.branches)
        assert all(t.isfinite().all() for t in (out.logits, out.embedding, *out.branches))
        assert out.embedding.shape == (3, 256)  # the head keeps its size in a narrow network
        torch.testing.assert_close(out.embedding.norm(dim=1), torch.ones(3))
        assert out.logits.std(0).max() > 1e-3  # different pictures, different logits


def test_one_branch_is_not_fused_and_ignores_a_mask():
    image, mask = batch()
    model = small("vgg19")
    assert torch.equal(model(image).logits, model(image).branches[0])
    assert torch.equal(model(image, mask).logits, model(image).logits)


@pytest.mark.parametrize("name", TWO_BRANCHES)
def test_logits_are_the_log_of_the_mean_softmax(name):
    model, (image, mask) = small(name), batch()
    for classifier in model.classifiers.values():
        nn.init.normal_(classifier.weight, std=5)  # so that the branches disagree
    out = model(image, mask)
    left, right = (b.double().softmax(1) for b in out.branches)
    assert (left - right).abs().max() > 0.05
    torch.testing.assert_close(out.logits.double(), torch.log((left + right) / 2), rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("bias", [True, False])
def test_convolution_of_tiny_maps_is_torchs(size, layout, bias):
    """Value and gradients of the convolution that treats maps of 2 x 2 and less as a matrix product."""
    torch.manual_seed(0)
    ours = Conv3x3(6, 9, 3, padding=1, bias=bias).double().to(memory_format=layout)
    theirs = nn.Conv2d(6, 9, 3, padding=1, bias=bias).double()
    theirs.load_state_dict(ours.state_dict())
    results = []
    for layer in (ours, theirs):
        x = batch(4 * 6, size)[0].view(4, 6, size, size).double().to(memory_format=layout).requires_grad_()
        out = layer(x)
        out.sin().sum().backward()
        results.append((out, x.grad, *(p.grad for p in layer.parameters())))
    for mine, expected in zip(*results, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mask_at", MASK_PLACES)
def test_only_the_local_branch_sees_the_mask(mask_at):
    model, (image, mask) = small(mask_at=mask_at), batch()
    one, other = model(image, mask), model(image, mask / 2)
    assert torch.equal(one.branches[0], other.branches[0])
    assert torch.equal(one.embedding, other.embedding)
    assert (one.branches[1] - other.branches[1]).abs().amax(1).min() > 1e-4
    assert not torch.equal(one.logits, other.logits)


@pytest.mark.parametrize("mask_at", MASK_PLACES)
def test_heads_are_not_shared(mask_at):
    """The same structure with parameters of its own; the trunk alone is learnt by both branches."""
    model, (image, mask) = small(mask_at=mask_at), batch()
    parts = (model.tails, model.heads, model.classifiers)
    own = {b: [p for part in parts for p in part[b].parameters()] for b in ("global", "local")}
    assert [p.shape for p in own["global"]] == [p.shape for p in own["local"]]
    assert not {id(p) for p in own["global"]} & {id(p) for p in own["local"]}
    trunk = list(model.trunk.parameters())
    assert len(trunk) + 2 * len(own["local"]) == len(list(model.parameters()))
    assert not torch.equal(model.classifiers["global"].weight, model.classifiers["local"].weight)
    for k, mine, others in ((0, "global", "local"), (1, "local", "global")):
        model.zero_grad()
        nn.functional.cross_entropy(model(image, mask).branches[k], torch.arange(3)).backward()
        assert all(p.grad is None for p in own[others])
        assert all(p.grad is not None for p in own[mine]) and trunk[0].grad.any()


@pytest.mark.parametrize("size, widths", [(44, (11, 5, 2, 1)), (48, (12, 6, 3, 1))])
def test_mask_places_and_the_width_of_their_maps(size, widths):
    for place, width in zip(MASK_PLACES, widths, strict=True):
        model = small(mask_at=place)
        assert model.trunk(batch(size=size)[0].expand(-1, 3, -1, -1)).shape[2:] == (width, width)
        assert model(*batch(size=size)).logits.isfinite().all()


def test_an_empty_mask_leaves_the_local_branch_nothing_to_see():
    model, (image, mask) = small(), batch()
    blind = model(image, torch.zeros_like(mask)).branches[1]
    assert torch.equal(blind, blind[:1].expand(3, -1))
    plain = model(image, torch.ones_like(mask))
    model.tails["local"], model.heads["local"] = model.tails["global"], model.heads["global"]
    model.classifiers["local"] = model.classifiers["global"]
    same = model(image, torch.ones_like(mask))
    assert torch.equal(same.branches[0], same.branches[1]) and torch.equal(
        same.branches[0], plain.branches[0]
    )


def test_standardised_images_have_no_brightness_and_contrast():
    model, (image, mask) = small(standardise=True), batch()
    out = model(image, mask).logits
    torch.testing.assert_close(model(0.2 + 0.5 * image, mask).logits, out, rtol=0, atol=1e-4)
    assert (small()(0.2 + 0.5 * image, mask).logits - small()(image, mask).logits).abs().max() > 1e-3
    assert model(torch.full_like(image, 0.5), mask).logits.isfinite().all()


def test_dropout_acts_in_training_with_its_probability():
    rates = {m.p for m in small(dropout=0.8).modules() if isinstance(m, nn.Dropout)}
    assert rates == {0.8}
    model, (image, mask) = small(dropout=0.8, batch_norm=False).train(), batch()
    assert not torch.equal(model(image, mask).logits, model(image, mask).logits)
    assert torch.equal(model.eval()(image, mask).logits, model(image, mask).logits)


def test_same_seed_same_weights():
    one, two, other = small(seed=1).state_dict(), small(seed=1).state_dict(), small(seed=2).state_dict()
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert any(not torch.equal(one[k], other[k]) for k in one)


def test_errors_name_the_choices():
    with pytest.raises(ValueError, match="resnet.*vgg19, baseline1, baseline2, lkrnet"):
        build_model("resnet")
    with pytest.raises(ValueError, match="conv6.*conv3_4, conv4_4, conv5_4, pool5"):
        build_model("lkrnet", mask_at="conv6")
    for name in TWO_BRANCHES:
        with pytest.raises(ValueError, match="local branch.*mask"):
            small(name)(batch()[0])


def test_an_image_is_standardised_by_itself():
    image = torch.rand(4, 1, 44, 44, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 5).view(
        -1, 1, 1, 1
    )
    out = standardised(image)
    assert torch.equal(out, torch.cat([standardised(one[None]) for one in image]))
    torch.testing.assert_close(out.mean((1, 2, 3)), torch.zeros(4), rtol=0, atol=1e-5)
    torch.testing.assert_close(out.std((1, 2, 3)), torch.ones(4))


def test_readmes_own_network_is_built_like_the_papers(monkeypatch):
    text = (Path(__file__).parents[1] / "README.md").read_text()
    (block,) = [b for b in re.findall(r"```python\n(.*?)```", text, re.S) if "class Small" in b]
    monkeypatch.setattr(models, "MODELS", dict(models.MODELS))
    monkeypatch.setattr(fercompanion, "MODELS", models.MODELS)
    exec(block, own := {"__name__": "readme"})
    recipe = own["recipe"]
    output = models.build_model(recipe.model, 5, **recipe.model_options())(*batch())
    assert recipe.arm == "small" and output.logits.shape == (3, 5)
    assert torch.allclose(output.embedding.norm(dim=1), torch.ones(3))
