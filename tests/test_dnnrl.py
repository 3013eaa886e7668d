"""DNNRL: Table 1 counted on the network itself, and the printed gradients against autograd."""

import math

import pytest
import torch
import torch.nn.functional as F
import torchvision
from conftest import settled

from fercompanion.losses import exponential_triplet_loss, triplet_loss
from fercompanion.models.dnnrl import WIDTHS, alexnet, dnnrl, layer_table
from fercompanion.papers import published


def grey(n=3, size=108, seed=0):
    return torch.rand(n, 1, size, size, generator=torch.Generator().manual_seed(seed))


def small(network=dnnrl, size=108, **options):
    torch.manual_seed(0)
    return settled(network(**{"width": 0.25, **options}), grey(8, size, seed=1))


# --- the network ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def counted():
    return layer_table(dnnrl())


def cut(number):
    """As Table 1 prints numbers: thousands and millions, cut off and not rounded."""
    for unit, letter in ((10**6, "M"), (10**3, "K")):
        if number >= unit:
            return f"{number // unit}{letter}"
    return str(number) if number else "-"


def test_the_network_is_table_1(counted):
    """Sizes, weights and multiplications of its twelve layers, every one as printed."""
    printed = [r["value"] for r in published("DNNRL", "Table 1")]
    assert len(printed) == 12
    assert printed == [
        f"output {size.replace('×', 'x')}; params {cut(weights)}; ops {cut(operations)}"
        for _, size, weights, operations in counted
    ]


def test_weights_to_the_last_one(counted):
    weights = [w for _, _, w, _ in counted if w]
    assert weights == [288, 9_216, 18_432, 203_776, 823_296, 926_208, 589_824]
    batch_norm = 2 * (32 + 32 + 64 + 256 + 288 + 288)
    assert sum(p.numel() for p in dnnrl().parameters()) == sum(weights) + batch_norm + (512 + 1) * 7


def test_table_1_leaves_one_choice_open():
    """Without 1 x 1 reductions its sums and weights fix c3 + 3 c5 alone: 366 in 4a and 5a, 365 or 366 in 3a."""
    found = {}
    for name, before, total, kilo in (
        ("inception3a", 64, 256, 203),
        ("inception4a", 256, 288, 823),
        ("inception5a", 288, 288, 926),
    ):
        fits = [
            (total - c3 - c5, c3, c5)
            for c3 in range(1, total)
            for c5 in range(1, total - c3)
            if before * (total - c3 - c5 + 9 * c3 + 25 * c5) // 1000 == kilo
        ]
        assert WIDTHS[name] in fits
        found[name] = {c3 + 3 * c5 for _, c3, c5 in fits}
    assert found == {"inception3a": {365, 366}, "inception4a": {366}, "inception5a": {366}}


def test_forward_is_the_papers_order():
    """Convolution, batch norm, ReLU, then the pool, written out; the network pools first and says so."""
    model, x = small(width=0.5), grey()
    t = model.trunk

    def inception(x, name):
        norm, start, parts = t.get_submodule(name).norm, 0, []
        for convolution in t.get_submodule(name).convolutions:
            own = slice(start, start := start + convolution.out_channels)
            y = F.conv2d(x, convolution.weight, padding=convolution.kernel_size[0] // 2)
            scale = norm.weight[own], norm.bias[own]
            parts.append(F.batch_norm(y, norm.running_mean[own], norm.running_var[own], *scale).relu())
        return torch.cat(parts, 1)

    image = x
    for name, stride in (("conv1", 2), ("conv2", 1), ("conv3", 1)):
        convolution, norm = t.get_submodule(name)[:2]
        x = norm(F.conv2d(x, convolution.weight, stride=stride, padding=1)).relu()
    for name in WIDTHS:
        x = inception(F.max_pool2d(x, 3, 2, ceil_mode=True), name)
    features = F.avg_pool2d(x, 3, 3).flatten(1) @ model.linear.weight.T
    out = model(image)
    torch.testing.assert_close(out.embedding, features / features.norm(dim=1, keepdim=True))
    torch.testing.assert_close(out.logits, model.classifier(features))


@pytest.mark.parametrize("network", [dnnrl, alexnet])
@pytest.mark.parametrize("size", [108, 88, 64])
def test_embeddings_have_unit_length_and_logits_do_not_know(network, size):
    """Relative distances are bounded by 4; the softmax arm sees the features before they are normalised."""
    model = small(network, size)
    out = model(grey(size=size))
    assert out.branches == (out.logits,) and out.logits.shape == (3, 7)
    assert out.embedding.shape == (3, 512 if network is dnnrl else 1024)
    torch.testing.assert_close(out.embedding.norm(dim=1), torch.ones(3))
    from_unit = out.embedding @ model.classifier.weight.T
    length = (out.logits - model.classifier.bias) / from_unit
    torch.testing.assert_close(length, length[:, :1].expand(-1, 7), rtol=1e-3, atol=0)
    assert (length - 1).abs().min() > 0.01


def test_dropout_works_in_training_alone():
    model, x = small(dropout=0.2), grey()
    assert torch.equal(model(x).logits, model(x).logits)
    model.trunk.dropout.train()
    dropped = model.trunk.dropout(torch.ones(1000))
    assert 0.1 < (dropped == 0).float().mean() < 0.3  # Table 1: 20 %
    assert not torch.equal(model(x).logits, model(x).logits)


@pytest.mark.parametrize("network", [dnnrl, alexnet])
def test_standardised_images_have_no_brightness(network):
    x = grey()
    for standardise in (True, False):
        model = small(network, standardise=standardise)
        same = torch.allclose(model(0.5 * x + 0.2).logits, model(x).logits, atol=1e-4)
        assert same is standardise


def test_classes_and_labels_are_free():
    assert (
        dnnrl(5, width=0.25)(grey(2)).logits.shape == alexnet(5, width=0.25)(grey(2)).logits.shape == (2, 5)
    )


def test_alexnet_is_torchvisions():
    """The same shapes but for one input channel in the place of three, and the same function of the image."""
    torch.manual_seed(0)
    ours, theirs = alexnet().eval(), torchvision.models.alexnet(num_classes=7).eval()
    weights = [p.data for p in ours.parameters()]
    assert [w.shape for w in weights[1:]] == [p.shape for p in theirs.parameters()][1:]
    assert sum(w.numel() for w in weights) == 57_032_519 - 2 * 64 * 11 * 11
    with torch.no_grad():
        theirs.features[0].weight.copy_(weights[0].expand(-1, 3, -1, -1) / 3)
        for parameter, weight in zip(list(theirs.parameters())[1:], weights[1:], strict=True):
            parameter.copy_(weight)
    x = grey(2)
    torch.testing.assert_close(ours(x).logits, theirs(x.expand(-1, 3, -1, -1)))


def test_alexnets_signal_does_not_fade():
    """He's start: untrained, features differ between images; with torch's own they hardly do."""
    torch.manual_seed(0)
    x = grey(16)
    spread = []
    for model in (alexnet(width=0.25).eval(), torchvision.models.alexnet(num_classes=7).eval()):
        logits = model(x).logits if len(spread) == 0 else model(x.expand(-1, 3, -1, -1))
        spread.append(logits.std(0).mean().item())
    assert spread[0] > 20 * spread[1]


# --- the loss -------------------------------------------------------------------------------------


def triplets(n=40, dim=6, seed=0):
    """Unit vectors, about half of the triplets violated."""
    g = torch.Generator().manual_seed(seed)
    three = F.normalize(torch.randn(3, n, dim, generator=g, dtype=torch.float64), dim=2)
    return [x.requires_grad_() for x in three]


def gap(anchor, positive, negative):
    """D, the relative distance of Eqs. 2-4 and Fig. 3."""
    return ((anchor - negative) ** 2).sum(1) - ((anchor - positive) ** 2).sum(1)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.2, 0.0), (1.5, 0.3)])
def test_autograd_gives_the_printed_gradients(alpha, gamma):
    """Eqs. 2, 3 and 4, triplet by triplet."""
    three = triplets()
    got = torch.autograd.grad(40 * exponential_triplet_loss(*three, alpha, gamma), three)
    satisfied = 0
    for k in range(40):
        a, p, n = (x[k].detach() for x in three)
        d = ((a - n) ** 2).sum() - ((a - p) ** 2).sum()
        delta = math.exp(-alpha * (d - gamma)) if d > gamma else 0.0
        satisfied += d > gamma
        for gradient, printed in zip(got, (p - n, a - p, n - a), strict=True):
            torch.testing.assert_close(gradient[k], -2 * alpha * delta * printed, rtol=0, atol=1e-14)
    assert 10 < satisfied < 30


def test_value_is_a_loop_over_triplets():
    three = triplets(seed=1)
    for clamp in (True, False):
        loop = [math.exp(-0.7 * (max(d - 0.1, 0.0) if clamp else d - 0.1)) for d in gap(*three).tolist()]
        assert exponential_triplet_loss(*three, 0.7, 0.1, clamp).item() == pytest.approx(sum(loop) / 40)


def slope(d, clamp=True, swapped=False):
    """dL/dD at a relative distance D, by moving the negative."""
    d = torch.tensor(d, dtype=torch.float64, requires_grad=True)
    anchor = torch.zeros(1, 1, dtype=torch.float64)
    positive, negative = torch.full_like(anchor, math.sqrt(2)), (2 + d).sqrt().view(1, 1)
    pair = (negative, positive) if swapped else (positive, negative)
    return torch.autograd.grad(exponential_triplet_loss(anchor, *pair, clamp=clamp), d)[0].item()


RELATIVE = (-1.0, -0.1, 0.1, 1.0, 3.0)


def test_slopes_and_those_of_equation_1_as_printed():
    """Printed Eq. 1 has D's sign turned, as if positives and negatives were exchanged: it would push positives away."""
    assert [slope(d) for d in RELATIVE] == pytest.approx([0, 0, -0.196, -0.164, -0.110], abs=6e-4)
    printed = [slope(d, swapped=True) for d in RELATIVE]
    assert printed == pytest.approx([0.164, 0.196, 0, 0, 0], abs=6e-4)


def test_violated_triplets_weigh_nothing_with_the_clamp_and_most_without():
    with_clamp, without = ([slope(d, clamp) for d in RELATIVE] for clamp in (True, False))
    assert with_clamp[:2] == [0, 0] and with_clamp[2:] == without[2:]
    assert without == sorted(without) and without[0] == pytest.approx(-0.2 * math.exp(0.2))
    violated = gap(*triplets()) < 0
    for clamp in (True, False):
        three = triplets()
        gradients = torch.autograd.grad(exponential_triplet_loss(*three, clamp=clamp), three)
        assert all(g[violated].any(1).all() != clamp for g in gradients)
        assert all(g[~violated].any(1).all() for g in gradients)


def test_weights_differ_by_e_to_the_0_8_at_most():
    """On unit vectors D is at most 4, and alpha = 0.2: the "importance" of two satisfied triplets differs 2.23-fold."""
    anchor = torch.tensor([[1.0, 0.0]])
    assert gap(anchor, anchor, -anchor).item() == 4
    assert slope(1e-9) / slope(4.0) == pytest.approx(math.exp(0.8), rel=1e-6)
    assert math.exp(0.8) == pytest.approx(2.23, abs=0.005)


def test_spreading_pays_without_knowledge():
    """Two opposite poles, half of each class on each: the clamped loss likes it better than one spot, the others do not."""
    pole = torch.tensor([1.0, 0.0])
    anchor = pole.expand(4, 2)
    positive = torch.stack([pole, pole, -pole, -pole])
    negative = torch.stack([pole, -pole, pole, -pole])  # D = 0, 4, -4, 0
    poles = exponential_triplet_loss(anchor, positive, negative).item()
    assert poles == pytest.approx(0.75 + math.exp(-0.8) / 4) and poles == pytest.approx(0.862, abs=5e-4)
    assert exponential_triplet_loss(anchor, anchor, anchor).item() == 1 > poles
    assert exponential_triplet_loss(anchor, positive, negative, clamp=False) > 1
    assert triplet_loss(anchor, positive, negative, 0.2) > triplet_loss(anchor, anchor, anchor, 0.2)


@pytest.mark.parametrize("clamp", [True, False])
def test_gradcheck(clamp):
    three = triplets(8, 4, seed=2)
    assert gap(*three).abs().min() > 1e-3  # away from the kink
    assert torch.autograd.gradcheck(lambda *t: exponential_triplet_loss(*t, 0.5, 0.0, clamp), three)


def test_no_triplets_no_loss():
    three = [x[:0] for x in triplets()]
    assert exponential_triplet_loss(*three).item() == 0
