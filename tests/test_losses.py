"""The losses against loops and against two libraries."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fercompanion.losses import CenterLoss, TrainingLoss, exponential_triplet_loss, triplet_loss
from fercompanion.models import Output
from fercompanion.recipes import OURS, PAPER, arm


def embeddings(n=12, d=6, seed=0):
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(x, dim=1).requires_grad_()


def all_triplets(labels):
    """Every (anchor, another of its class, one of another class)."""
    n = range(len(labels))
    found = [
        (a, p, q)
        for a in n
        for p in n
        for q in n
        if a != p and labels[a] == labels[p] and labels[a] != labels[q]
    ]
    return tuple(torch.tensor(column) for column in zip(*found, strict=True))


LABELS = torch.tensor([0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 3, 3])
MARGIN = 0.4


def ours(x, triplets, margin=MARGIN):
    return triplet_loss(*(x[rows] for rows in triplets), margin)


def gradient(loss, x):
    return torch.autograd.grad(loss, x)[0]


def test_triplet_loss_is_a_loop_over_triplets():
    """Value and gradient of Eq. 9, averaged over some triplets, violated or not."""
    x, some = embeddings(), torch.randperm(80, generator=torch.Generator().manual_seed(0))[:50]
    triplets = tuple(column[some] for column in all_triplets(LABELS))
    v, value, slope, violated = x.detach().numpy(), 0.0, np.zeros((12, 6)), 0
    for a, p, n in zip(*(t.tolist() for t in triplets), strict=True):
        z = sum((v[a] - v[p]) ** 2) - sum((v[a] - v[n]) ** 2) + MARGIN
        if z > 0:
            violated += 1
            value += z
            slope[a] += 2 * (v[n] - v[p])
            slope[p] += 2 * (v[p] - v[a])
            slope[n] += 2 * (v[a] - v[n])
    count = len(triplets[0])
    assert 0 < violated < count
    loss = ours(x, triplets)
    assert loss.item() == pytest.approx(value / count, abs=1e-12)
    np.testing.assert_allclose(gradient(loss, x), slope / count, rtol=0, atol=1e-12)


@pytest.mark.parametrize("margin", [0.0, 0.2, 1.0])
def test_triplet_loss_is_pytorch_metric_learnings(margin):
    """With squared distances, no normalisation and the plain mean; its defaults differ in all three."""
    library = pytest.importorskip("pytorch_metric_learning")
    from pytorch_metric_learning import distances, losses, reducers

    theirs = losses.TripletMarginLoss(
        margin=margin,
        swap=False,
        smooth_loss=False,
        triplets_per_anchor="all",
        reducer=reducers.MeanReducer(),
        distance=distances.LpDistance(normalize_embeddings=False, p=2, power=2),
    )
    x = embeddings(seed=1)
    expected, got = theirs(x, LABELS), ours(x, all_triplets(LABELS), margin)
    assert got.item() == pytest.approx(expected.item(), abs=1e-12), library.__version__
    torch.testing.assert_close(gradient(got, x), gradient(expected, x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("margin", [0.2, 1.0])
def test_triplet_loss_is_torchs_with_squared_distances(margin):
    theirs = torch.nn.TripletMarginWithDistanceLoss(
        distance_function=lambda u, v: (u - v).pow(2).sum(-1), margin=margin
    )
    x, triplets = embeddings(seed=2), all_triplets(LABELS)
    expected, got = theirs(*(x[rows] for rows in triplets)), ours(x, triplets, margin)
    assert got.item() == pytest.approx(expected.item(), abs=1e-12)
    torch.testing.assert_close(gradient(got, x), gradient(expected, x), rtol=0, atol=1e-12)


def test_satisfied_triplets_count_in_the_mean():
    near, far = torch.zeros(4, 2), torch.tensor([[0.0, 0], [9, 9], [9, 9], [9, 9]])
    assert triplet_loss(near, near, far, 0.2).item() == pytest.approx(0.2 / 4)


def test_no_triplets_no_loss():
    x = embeddings()
    loss = ours(x, (torch.zeros(0, dtype=torch.long),) * 3)
    assert loss.item() == 0
    assert not gradient(loss, x).any()


def two_branches(n=12, k=7, seed=3):
    """Logits of two branches and unit embeddings, all leaves."""
    g = torch.Generator().manual_seed(seed)
    branches = tuple((2 * torch.randn(n, k, generator=g)).requires_grad_() for _ in range(2))
    embedding = torch.nn.functional.normalize(torch.randn(n, 5, generator=g), dim=1).requires_grad_()
    return Output(sum(branches), embedding, branches), torch.randint(0, k, (n,), generator=g)


def options(**changes):
    return replace(PAPER, **changes)


def total_loss(output, labels, triplets, recipe):
    return TrainingLoss(recipe, 7, output.embedding.shape[1])(output, labels, triplets)


def naive_cross_entropy(logits, label, smoothing=0.0):
    """Minus the inner sum of Eq. 6 for one image and one branch."""
    p = np.exp(logits) / np.exp(logits).sum()
    q = [smoothing / len(p) + (1 - smoothing) * (j == label) for j in range(len(p))]
    return -sum(q[j] * np.log(p[j]) for j in range(len(p)))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("lam", [0.2, 0.4])
def test_equations_5_to_9_composed(lam, smoothing):
    """Branches are summed, triplets averaged; cross-entropy over a triplet's images is Eq. 6 over 3."""
    output, labels = two_branches()
    triplets = torch.arange(12).chunk(3)
    some = (*(torch.cat([t, t[:1]]) for t in triplets), torch.arange(5) < 4)  # the fifth does not count
    b, e = (
        [v.detach().numpy().astype(float) for v in output.branches],
        output.embedding.detach().double().numpy(),
    )
    total = 0.0
    for rows in zip(*(t.tolist() for t in triplets), strict=True):
        cross = sum(naive_cross_entropy(logits[r], labels[r].item(), smoothing) for logits in b for r in rows)
        x, p, n = e[list(rows)]
        total += cross / 3 + lam * max(((x - p) ** 2).sum() - ((x - n) ** 2).sum() + 0.2, 0)
    got = total_loss(output, labels, some, options(lam=lam, label_smoothing=smoothing))
    assert got.item() == pytest.approx(total / 4, rel=1e-6)


def test_label_smoothing_costs_a_sure_classifier():
    logits = 20 * torch.eye(7)
    output, labels = Output(logits, torch.eye(7), (logits,)), torch.arange(7)
    plain, smooth = (
        total_loss(output, labels, None, options(lam=0, label_smoothing=s)).item() for s in (0.0, 0.1)
    )
    assert plain == pytest.approx(0, abs=1e-6)
    assert smooth == pytest.approx(0.1 * 6 / 7 * 20, rel=1e-5)


@pytest.mark.parametrize("base", [PAPER, OURS])
def test_lambda_0_is_baseline_1_to_the_bit(base):
    """In value and in every gradient; the triplets and even broken embeddings have no say."""
    output, labels = two_branches()
    triplets = (*torch.arange(12).chunk(3), torch.ones(4, dtype=torch.bool))
    expected = total_loss(output, labels, None, arm(base, "baseline1"))
    broken = output._replace(embedding=output.embedding * torch.nan)
    got = total_loss(broken, labels, triplets, arm(base, "lkrnet-lambda0"))
    assert torch.equal(got, expected)
    for left, right in zip(
        torch.autograd.grad(got, output.branches), torch.autograd.grad(expected, output.branches), strict=True
    ):
        assert torch.equal(left, right)
    with_triplets = total_loss(output, labels, triplets, arm(base, "lkrnet"))
    assert with_triplets > expected


def test_one_classifier_needs_no_second():
    output, labels = two_branches()
    single = output._replace(branches=output.branches[:1])
    expected = torch.nn.functional.cross_entropy(output.branches[0], labels)
    assert torch.equal(total_loss(single, labels, None, options(lam=0)), expected)


def test_gradient_has_the_same_bits_on_several_threads():
    """torch spreads 128 embeddings of 256 over threads; one shared positive makes their sums collide."""
    g = torch.Generator().manual_seed(0)
    embedding = torch.nn.functional.normalize(torch.randn(128, 256, generator=g), dim=1)
    logits, labels = torch.zeros(128, 7), torch.zeros(128, dtype=torch.long)
    anchor = torch.arange(128)
    triplets = anchor, torch.zeros_like(anchor), anchor.roll(1), torch.ones(128, dtype=torch.bool)
    seen, threads = set(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for _ in range(40):
            x = embedding.clone().requires_grad_()
            loss = total_loss(Output(logits, x, (logits,)), labels, triplets, options(margin=2.0))
            seen.add(gradient(loss, x).numpy().tobytes())
    finally:
        torch.set_num_threads(threads)
    different = len(seen)
    assert different == 1


@pytest.mark.parametrize("clamp", [True, False])
def test_the_exponential_term_has_the_recipes_parameters(clamp):
    output, labels = two_branches()
    triplets = *torch.arange(12).chunk(3), torch.arange(4) < 3  # the fourth does not count
    recipe = options(metric="exponential", lam=0.5, alpha=1.5, gamma=0.3, clamp=clamp)
    term = exponential_triplet_loss(*(output.embedding[t[:3]] for t in triplets[:3]), 1.5, 0.3, clamp)
    expected = total_loss(output, labels, None, options(lam=0)) + 0.5 * term
    assert total_loss(output, labels, triplets, recipe).item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_margin_is_the_recipes():
    output, labels = two_branches()
    triplets = *torch.arange(12).chunk(3), torch.ones(4, dtype=torch.bool)
    term = triplet_loss(*(output.embedding[t] for t in triplets[:3]), 1.0)
    expected = total_loss(output, labels, None, options(lam=0)) + 0.4 * term
    got = total_loss(output, labels, triplets, options(lam=0.4, margin=1.0))
    assert got.item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_center_term_has_the_recipes_weight_and_rate():
    output, labels = two_branches()
    own = TrainingLoss(options(metric="center", lam=0.003, center_rate=0.25), 7, 5)
    theirs = CenterLoss(7, 5, 0.25)
    for _ in range(2):
        expected = total_loss(output, labels, None, options(lam=0)) + 0.003 * theirs(output.embedding, labels)
        assert own(output, labels, None).item() == pytest.approx(expected.item(), abs=1e-6)
    torch.testing.assert_close(own.center.centers, theirs.centers)
