"""Kim et al. 2022: sizes of Table 1, torchvision's ResNets, and a transformer that starts as the identity and learns."""

import pytest
import torch
import torch.nn.functional as F
from conftest import settled
from torchvision.models import ResNet
from torchvision.models.resnet import BasicBlock

from fercompanion.models import Output
from fercompanion.models.kim2022 import IDENTITY, kim, kim_resnet18, layer_sizes, sample
from fercompanion.papers import published

NETWORKS = ((kim, (1, 1, 1, 1)), (kim_resnet18, (2, 2, 2, 2)))


def batch(n=4, seed=0):
    return torch.rand(n, 1, 48, 48, generator=torch.Generator().manual_seed(seed))


def small(network=kim, seed=0, **options):
    torch.manual_seed(seed)
    return settled(network(**{"width": 0.125} | options), batch(8, seed=1))


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("network", "_"), NETWORKS)
def test_maps_have_the_sizes_of_table_1(network, _):
    """The printed rows: 24x24 after 7x7, 64, stride 2 and so on to 2x2 with 512 channels."""
    printed = [r for r in published("Kim2022", "Table 1") if r["class"].startswith("Convolution")]
    sizes = list(layer_sizes(network()).values())
    assert len(printed) == 5
    for row, size in zip(printed, sizes, strict=False):
        side, channels = size.split("×")[0], size.split("×")[2]
        assert f"output {side}x{side}" in row["value"] and f", {channels}" in row["value"]
    assert sizes[-1] == "1×1×512"


@pytest.mark.parametrize(("network", "blocks"), NETWORKS)
def test_the_trunk_is_torchvisions_resnet(network, blocks):
    """With one grey channel; the same weights in the same order give the same logits."""
    torch.manual_seed(0)
    ours, theirs = network(num_classes=7), ResNet(BasicBlock, list(blocks), num_classes=7)
    theirs.conv1 = torch.nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    weights = [*ours.trunk.state_dict().values(), *ours.classifier.state_dict().values()]
    theirs.load_state_dict(dict(zip(theirs.state_dict(), weights, strict=True)))
    image = batch(2)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(image).logits, theirs.eval()(image), rtol=1e-3, atol=1e-4)
    assert count(ours.trunk) + count(ours.classifier) == count(theirs)


def test_parameters():
    """torchvision's ResNet-18 has 11,176,512 without its head; the network of Table 1 not half of them."""
    colours, head = 2 * 64 * 7 * 7, 513 * 7
    transformer = 8 * 50 + 10 * (8 * 25 + 1) + 641 * 6
    assert count(kim_resnet18()) == 11_176_512 - colours + head + transformer
    stem, first = 64 * 49 + 2 * 64, 2 * 9 * 64**2 + 4 * 64
    # a block that halves: 3 x 3 from c to 2c, 3 x 3, 1 x 1 shortcut, three batch norms
    halving = sum(18 * c**2 + 36 * c**2 + 2 * c**2 + 12 * c for c in (64, 128, 256))
    assert count(kim()) == stem + first + halving + head + transformer
    assert count(kim().transformer) == transformer


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize(("network", "_"), NETWORKS)
def test_output(network, _, standardise):
    model = small(network, num_classes=5, standardise=standardise)
    out = model(batch())
    assert isinstance(out, Output) and out.logits.shape == (4, 5)
    assert len(out.branches) == 1 and out.branches[0] is out.logits
    assert out.embedding.shape == (4, 64) and out.embedding.dtype == torch.float32
    torch.testing.assert_close(out.embedding.norm(dim=1), torch.ones(4))
    assert out.logits.std(0).max() > 1e-3
    torch.testing.assert_close(model(batch(), torch.ones(4, 1, 48, 48)).logits, out.logits)


def test_logits_come_from_features_that_keep_their_length():
    model = small()
    with torch.no_grad():
        out = model(batch())
        unit = model.classifier(out.embedding)
        maps = model.trunk(model.transform(batch()))
        torch.testing.assert_close(out.logits, model.classifier(maps.mean((2, 3))))
        torch.testing.assert_close(out.embedding, F.normalize(maps.mean((2, 3)), dim=1))
    assert (out.logits - unit).abs().max() > 1e-3


def test_standardised_networks_do_not_see_brightness_and_contrast():
    image = batch()
    other = 0.3 + 0.4 * image
    for standardise in (True, False):
        model = small(standardise=standardise)
        with torch.no_grad():
            same = torch.allclose(model(image).logits, model(other).logits, atol=1e-4)
        assert same == standardise


@pytest.mark.parametrize("standardise", [False, True])
def test_the_transformer_starts_as_the_identity(standardise):
    model = kim(width=0.125, standardise=standardise)
    image = batch()
    torch.testing.assert_close(model.theta(image).flatten(1), torch.tensor(IDENTITY).expand(4, 6))
    torch.testing.assert_close(model.transform(image), image)


def test_one_fully_connected_layer_and_two_convolutions_each_with_pool_and_relu():
    kinds = [type(m).__name__ for m in kim().transformer.localisation]
    assert kinds == ["Conv2d", "MaxPool2d", "ReLU"] * 2 + ["Flatten", "Linear"]


def test_sampler_looks_where_theta_says():
    image = batch()
    half = torch.tensor([[0.5, 0, 0.5], [0, 0.5, -0.5]]).expand(4, 2, 3)
    # the upper right quarter, twice as large
    quarter = F.interpolate(image[:, :, :24, 24:], size=48, mode="bilinear", align_corners=False)
    inner = (..., slice(1, -1), slice(1, -1))
    torch.testing.assert_close(sample(image, half)[inner], quarter[inner])
    mirror = torch.tensor([[-1.0, 0, 0], [0, 1, 0]]).expand(4, 2, 3)
    torch.testing.assert_close(sample(image, mirror), image.flip(-1))
    away = torch.tensor([[1.0, 0, 3], [0, 1, 0]]).expand(4, 2, 3)
    assert sample(image, away).abs().max() == 0  # black outside


def test_the_transformer_learns():
    """The loss reaches the last layer at once, and the convolutions before it from the second step on."""
    torch.manual_seed(0)
    model = kim(width=0.125).train()
    image, labels = batch(16), torch.arange(16) % 7
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    first, last = model.transformer.localisation[0], model.transformer.localisation[-1]
    for step in range(2):
        optimizer.zero_grad()
        F.cross_entropy(model(image).logits, labels).backward()
        assert last.weight.grad.abs().max() > 1e-6 and last.bias.grad.abs().max() > 1e-6
        assert (first.weight.grad.abs().max() > 0) == (step > 0)
        optimizer.step()
    assert model.theta(image).var(0).max() > 0  # each image its own map


def test_width_narrows_the_resnet_alone():
    narrow, whole = kim(width=0.25), kim()
    assert layer_sizes(narrow)["conv5"] == "2×2×128"
    assert count(narrow.transformer) == count(whole.transformer)
    assert 14 < count(whole.trunk) / count(narrow.trunk) < 17


def test_a_slow_transformer_moves_less():
    """Same start, same weights after a step: theta's way from the identity is `localisation_rate` as long."""
    fast, slow = kim(width=0.125), kim(width=0.125, localisation_rate=0.1)
    torch.manual_seed(0)
    torch.nn.init.normal_(fast.transformer.localisation[-1].weight, std=0.05)
    slow.load_state_dict(fast.state_dict())
    way = fast.theta(batch()).flatten(1) - torch.tensor(IDENTITY)
    assert way.abs().max() > 0.01
    torch.testing.assert_close(slow.theta(batch()).flatten(1) - torch.tensor(IDENTITY), 0.1 * way)
    torch.testing.assert_close(kim(width=0.125, localisation_rate=0.1).transform(batch()), batch())
