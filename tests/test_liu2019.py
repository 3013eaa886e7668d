"""Liu et al.: networks and their counts, weights from files, center loss, guided backpropagation, the ensemble."""

import hashlib
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import settled
from torch import nn
from torchvision.models import resnet50
from torchvision.models import vgg16 as torchvision_vgg16

from fercompanion import evaluate, explain, pooling
from fercompanion.data import DataError
from fercompanion.losses import CenterLoss
from fercompanion.models import build_model, liu2019
from fercompanion.papers import published
from fercompanion.recipes import Recipe

LIU = Recipe("liu", paper="liu", model="liu_a", mask="none", width=0.125, blocks=0)


def images(n=3, size=44, seed=0):
    return torch.rand(n, 1, size, size, generator=torch.Generator().manual_seed(seed))


def count(module):
    return sum(p.numel() for p in module.parameters())


def printed(method, metric):
    """One number of Table 1."""
    (row,) = [r for r in published("Liu2019", "Table 1") if (r["method"], r["metric"]) == (method, metric)]
    return int(row["value"])


# ---------------------------------------------------------------------------------------- model A
def test_model_a_has_the_printed_flows():
    """Sect. 2.2: 2 convolutions and 6 separable ones to 6 x 6 x 256; 12 separable ones; 2, and one convolution."""
    model = liu2019.liu_a()
    sizes = []
    for part in (model.entry, model.middle, model.exit, model.classifier):
        part.register_forward_hook(lambda _, __, out: sizes.append(tuple(out.shape[1:])))
    out = model.eval()(images(1, 48))
    assert sizes == [(256, 6, 6), (256, 6, 6), (1024, 6, 6), (7, 6, 6)]
    assert out.logits.shape == (1, 7)
    depthwise = [
        m.groups > 1 for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)
    ]
    assert depthwise == [False] * 2 + [True] * 20 + [False]
    assert sum(isinstance(m, nn.Linear) for m in model.modules()) == 0


def test_model_a_counted_as_keras_does():
    """The network's own tensors plus what Keras adds; 208 from the printed number, for which the gap is known."""
    model = liu2019.liu_a()
    counts = liu2019.parameter_counts(model)
    assert counts["trained"] == count(model) == 1_738_119
    assert counts["Keras"] == 2_720_647
    assert counts["printed"] == printed("Improved model", "parameters") == counts["Keras"] - 208
    assert counts["running statistics"] == sum(
        b.numel() for n, b in model.named_buffers() if n.endswith(("running_mean", "running_var"))
    )
    # One slope an element: 64 channels at 48 x 48 four times, 128 at 24 x 24 and 256 at 12 x 12 twice, ...
    elements = 4 * 64 * 48**2 + 2 * 128 * 24**2 + 2 * 256 * 12**2 + (12 * 256 + 512 + 1024) * 6**2
    assert counts["slopes, one an element"] == elements
    assert liu2019.parameter_counts(liu2019.liu_a(activation="relu"))["slopes, one an element"] == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_prelu_is_torchs(dtype):
    """The CPU's own form has the values and gradients of nn.PReLU, for slopes below 0 and above 1 too."""
    x = torch.randn(4, 8, 6, 6, generator=torch.Generator().manual_seed(0)).to(dtype)
    x[0] = 0.0
    found = []
    for layer in (liu2019.PReLU(8), nn.PReLU(8)):
        with torch.no_grad():
            layer.weight.copy_(torch.linspace(-0.5, 1.5, 8))
        image = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            out = layer(image)
        out.backward(x.flip(0))
        found.append((out, image.grad, layer.weight.grad))
    for own, theirs in zip(*found, strict=True):
        assert own.dtype == theirs.dtype and theirs.abs().max() > 0.5
        torch.testing.assert_close(own, theirs)


def test_model_a_takes_crops_and_whole_faces():
    model = settled(liu2019.liu_a(width=0.125), images(8))
    for size in (44, 48):
        out = model(images(3, size))
        assert out.logits.shape == (3, 7) and out.embedding.shape == (3, 128)
        assert out.logits.isfinite().all() and out.logits.std(0).max() > 1e-4


def test_the_embedding_is_what_the_classifier_pools():
    """Center loss sees the mean of the map that the last convolution sees, before dropout."""
    model = settled(liu2019.liu_a(width=0.125, dropout=0.9), images(8))
    seen = []
    model.classifier.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    out = model(images())
    torch.testing.assert_close(out.embedding, seen[0].mean((2, 3)))
    # and its gradient reaches the network, but not the classifier
    model.train()(images()).embedding.sum().backward()
    assert model.entry[0][0].weight.grad.abs().sum() > 0
    assert model.classifier.weight.grad is None


@pytest.mark.parametrize(("activation", "kind"), [("prelu", liu2019.PReLU), ("relu", nn.ReLU)])
def test_activation(activation, kind):
    found = [type(m) for m in liu2019.liu_a(width=0.125, activation=activation).modules()]
    assert found.count(kind) == 22 and found.count(liu2019.PReLU) + found.count(nn.ReLU) == 22
    with pytest.raises(ValueError, match="elu"):
        liu2019.liu_a(activation="elu")


@pytest.mark.parametrize("name", ["liu_a", "vgg16", "liu_vgg19"])
def test_standardised_networks_do_not_see_contrast(name):
    model = settled(build_model(name, width=0.125, standardise=True), images(8))
    torch.testing.assert_close(
        model(images()).logits, model(0.5 * images() + 0.2).logits, rtol=1e-3, atol=1e-4
    )
    assert model(torch.full((1, 1, 44, 44), 0.3)).logits.isfinite().all()


# ---------------------------------------------------------------------------------------- VGGs
@pytest.mark.parametrize(("build", "method"), [(liu2019.vgg16, "VGG16"), (liu2019.vgg19_liu, "VGG19")])
def test_table_1_counts_convolutions_alone(build, method):
    with torch.device("meta"):
        model = build(batch_norm=False)
        normed = build()
    assert count(model.features) == printed(method, "parameters")
    assert count(model) == printed(method, "parameters") + (512 + 1) * 7
    convolutions = sum(isinstance(m, nn.Conv2d) for m in normed.modules())
    assert convolutions == int(method[3:]) - 3 == sum(isinstance(m, nn.BatchNorm2d) for m in normed.modules())


def test_vgg16_is_torchvisions():
    with torch.device("meta"):
        assert repr(liu2019.vgg16(batch_norm=False).features) == repr(
            torchvision_vgg16(weights=None).features
        )
    model, face = settled(liu2019.vgg16(width=0.125), images(8)), images(2)
    torch.testing.assert_close(model(face).embedding, model.features(face.expand(-1, 3, -1, -1))[:, :, 0, 0])


# ---------------------------------------------------------------------------------------- model B and weights
@pytest.fixture(scope="module")
def imagenet():
    """A stand-in for ImageNet's weights: a seeded state dict of torchvision's resnet50, with its 1000 classes."""
    torch.manual_seed(7)
    return resnet50(weights=None).state_dict()


@pytest.fixture(scope="module")
def file(imagenet, tmp_path_factory):
    """The stand-in as a file that bears its own hash in torchvision's way."""
    path = tmp_path_factory.mktemp("weights") / "x"
    torch.save(imagenet, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return path.rename(path.with_name(f"resnet50-{digest[:8]}.pth"))


def test_model_b_is_resnet50_with_the_weights_of_a_file(file, imagenet):
    """Features of the file's network on normalised grey images; the printed count is Keras' of the whole."""
    model = liu2019.liu_b(weights=str(file)).eval()
    theirs = resnet50(weights=None)
    theirs.load_state_dict(imagenet)
    theirs.fc = nn.Identity()
    face = images(2, 88)
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    torch.testing.assert_close(
        model(face).embedding, theirs.eval()((face.expand(-1, 3, -1, -1) - mean) / std), rtol=1e-3, atol=1e-3
    )
    assert model(face).logits.shape == (2, 7)
    biases = sum(m.out_channels for m in theirs.modules() if isinstance(m, nn.Conv2d))
    statistics = 2 * sum(m.num_features for m in theirs.modules() if isinstance(m, nn.BatchNorm2d))
    whole = count(model) - 2049 * 7 + 2049 * 1000
    (row,) = [r for r in published("Liu2019", "Sect 3.1") if r["metric"] == "parameters"]
    assert whole + biases + statistics == int(row["value"])


def test_weights_by_torchvisions_name_come_from_its_cache(file, imagenet, tmp_path, monkeypatch):
    """A file in the cache is used, and not before its hash is checked."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    path = tmp_path / "hub" / "checkpoints" / "resnet50-0676ba61.pth"
    os.link(file, path)
    with pytest.raises(DataError, match="SHA-256 begins with .* not 0676ba61; delete") as error:
        liu2019.liu_b(weights="ResNet50_Weights.IMAGENET1K_V1")
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: FakeDigest())
    model = liu2019.liu_b(weights="ResNet50_Weights.IMAGENET1K_V1")
    assert torch.equal(model.resnet.conv1.weight, imagenet["conv1.weight"])


class FakeDigest:
    def hexdigest(self):
        return "0676ba61" + 56 * "0"


def test_a_wrong_hash_in_a_files_name_is_refused(file):
    other = file.with_name("resnet50-00000000.pth")
    os.link(file, other)
    with pytest.raises(DataError, match="not 00000000"):
        liu2019.liu_b(weights=str(other))


def test_without_network_the_name_of_weights_is_an_error(tmp_path, monkeypatch):
    def offline(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    with pytest.raises(
        DataError, match=r"no route to host.*put resnet50-0676ba61.pth .*weights='none'"
    ) as error:
        liu2019.liu_b(weights="ResNet50_Weights.IMAGENET1K_V1")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("weights", "why"),
    [
        ("nowhere.pth", "no such file"),
        ("ResNet50_Weights.NO_SUCH", "knows no such weights"),
        ("none ", "no such file"),
    ],
)
def test_absent_weights_are_an_error(weights, why, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=f"{why}.*") as error:
        liu2019.liu_b(weights=weights)
    assert "\n" not in str(error.value)


def test_weights_of_another_network_are_an_error(tmp_path):
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "linear.pth")
    with pytest.raises(DataError, match="not ResNet50's"):
        liu2019.liu_b(weights=str(tmp_path / "linear.pth"))
    (tmp_path / "text.pth").write_text("<html>404</html>")
    with pytest.raises(DataError, match="not a state dict"):
        liu2019.liu_b(weights=str(tmp_path / "text.pth"))
    with pytest.raises(DataError, match="width=1"):
        liu2019.liu_b(weights=str(tmp_path / "linear.pth"), width=0.5)


# ---------------------------------------------------------------------------------------- center loss
def features(seed=0):
    g = torch.Generator().manual_seed(seed)
    labels = torch.tensor([0, 2, 2, 0, 2, 1])  # no image of class 3
    return torch.randn(6, 5, generator=g, dtype=torch.float64, requires_grad=True), labels


def center_loss(**options):
    criterion = CenterLoss(4, 5, **options).double()
    criterion.centers += torch.arange(20.0).view(4, 5) / 7
    return criterion


def test_center_loss_value_and_gradient():
    x, labels = features()
    criterion = center_loss()
    chosen = criterion.centers[labels].clone()
    loss = criterion(x, labels)
    loss.backward()
    torch.testing.assert_close(loss, 0.5 * F.mse_loss(x, chosen, reduction="sum") / 6)
    torch.testing.assert_close(x.grad, (x.detach() - chosen) / 6)


@pytest.mark.parametrize("rate", [0.5, 1.0])
def test_centres_move_as_wen_et_al_say(rate):
    x, labels = features()
    criterion = center_loss(rate=rate)
    before = criterion.centers.clone()
    criterion(x, labels)
    for j in range(4):
        own = [x[i].detach() for i in range(6) if labels[i] == j]
        delta = sum((before[j] - v for v in own), torch.zeros(5).double()) / (1 + len(own))
        torch.testing.assert_close(criterion.centers[j], before[j] - rate * delta)
    assert torch.equal(criterion.centers[3], before[3])


def test_centres_rest_in_evaluation():
    criterion = center_loss().eval()
    before = criterion.centers.clone()
    assert criterion(*features()) > 0
    assert torch.equal(criterion.centers, before)
    assert not list(criterion.parameters()) and "centers" in criterion.state_dict()


# ---------------------------------------------------------------------------------------- guided backpropagation
class Tiny(nn.Module):
    """Two 1 x 1 convolutions around an activation, then the mean: gradients one can write down."""

    def __init__(self, activation, weights=(1.0, -1.0), top=(2.0, 3.0)):
        super().__init__()
        self.first, self.activation = nn.Conv2d(1, 2, 1, bias=False), activation
        self.top = torch.tensor(top)
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor(weights).view(2, 1, 1, 1))

    def forward(self, image, mask=None):
        x = (self.activation(self.first(image)).mean((2, 3)) * self.top).sum(1, keepdim=True)
        return liu2019.Output(torch.cat([x, 0 * x - 100], 1), x, (x,))


def test_guided_gradients_written_down(demo):
    """Positive weights pass; of a negative input or a negative gradient nothing does, though PReLU has a slope."""
    rows, n = np.array([3, 50]), 44 * 44
    for activation in (nn.PReLU(2), nn.ReLU(inplace=True)):
        got, predicted = explain.guided_backprop(Tiny(activation), LIU, demo, rows)
        bright = demo.images[rows, 2:46, 2:46] > 0
        assert got.dtype == np.float32 and list(predicted) == [0, 0]
        np.testing.assert_allclose(
            got, bright * np.float32(2 / n), rtol=1e-6
        )  # channel 2 is negative: nothing
        blocked, _ = explain.guided_backprop(Tiny(activation, (1.0, 1.0), (2.0, -1.0)), LIU, demo, rows)
        np.testing.assert_allclose(blocked, bright * np.float32(2 / n), rtol=1e-6)
        dark, _ = explain.guided_backprop(Tiny(activation, (-1.0, -1.0)), LIU, demo, rows)
        assert not dark.any()


class Logits(nn.Module):
    """A network as grad-cam wants it."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, image):
        return self.model(image).logits


@pytest.mark.parametrize(("name", "crop"), [("liu_a", 44), ("liu_b", 48)])
def test_guided_backprop_of_relu_networks_is_grad_cams(demo, name, crop):
    from pytorch_grad_cam import GuidedBackpropReLUModel

    recipe = replace(LIU, model=name, activation="relu", crop=crop)
    model = settled(build_model(name, **recipe.model_options()), images(8, crop))
    got, predicted = explain.guided_backprop(model, recipe, demo, np.array([5]))
    start = (48 - crop) // 2
    view = demo.images[5:6, None, start : start + crop, start : start + crop]
    theirs = GuidedBackpropReLUModel(Logits(model), "cpu")(
        torch.as_tensor(view).float() / 255, int(predicted[0])
    )
    assert got.shape == (1, crop, crop) and got.any()
    np.testing.assert_allclose(got[0], theirs[..., 0], rtol=1e-3, atol=1e-4 * np.abs(got).max())


def test_guided_backprop_differs_from_the_gradient_and_leaves_the_model(demo):
    model = settled(build_model("liu_a", **LIU.model_options()), images(8))
    before = [type(m) for m in model.modules()]
    rows = np.array([5, 6])
    got, _ = explain.guided_backprop(model, LIU, demo, rows)
    crop = torch.as_tensor(demo.images[rows][:, None, 2:46, 2:46]).float().div(255).requires_grad_()
    model(crop).logits.max(1).values.sum().backward()
    plain = crop.grad[:, 0].numpy()
    assert got.shape == plain.shape == (2, 44, 44)
    assert np.abs(got - plain).max() > 0.1 * np.abs(plain).max()
    assert [type(m) for m in model.modules()] == before


# ---------------------------------------------------------------------------------------- the ensemble
def logits(seed, n=200, k=7):
    return np.random.default_rng(seed).normal(size=(n, k)).astype(np.float32) * 2


def test_ensemble_is_the_mean_of_the_softmaxes():
    a, b = logits(0), logits(1)
    p, q = (np.exp(x.astype(float)) / np.exp(x.astype(float)).sum(1, keepdims=True) for x in (a, b))
    np.testing.assert_allclose(np.exp(evaluate.ensemble((a, b), (0.3, 0.7))), 0.3 * p + 0.7 * q, rtol=1e-5)
    np.testing.assert_allclose(evaluate.ensemble((a, b), (1.0, 0.0)), np.log(p), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(evaluate.ensemble((a, b), (0.0, 1.0)), np.log(q), rtol=1e-4, atol=1e-5)
    assert evaluate.ensemble((a[None], b[None]), (0.5, 0.5)).shape == (1, 200, 7)  # seeds first


def test_the_weight_is_the_best_on_validation_images():
    labels = np.random.default_rng(2).integers(0, 7, 200)
    a, b = logits(0), logits(1)
    a[np.arange(200), labels] += 3
    assert evaluate.ensemble_weight(a, b, labels) > 0.5
    assert evaluate.ensemble_weight(b, a, labels) < 0.5
    assert evaluate.ensemble_weight(a, a, labels) == 0.5  # all weights equal: the middle
    w = evaluate.ensemble_weight(a, b, labels)
    found = [
        (evaluate.ensemble((a, b), (v, 1 - v)).argmax(1) == labels).mean() for v in evaluate.ENSEMBLE_WEIGHTS
    ]
    assert (evaluate.ensemble((a, b), (w, 1 - w)).argmax(1) == labels).mean() == max(found)


class Ran:
    info = {"epochs": 3}


def predictions_of(good, seeds=(0, 1), k=7):
    """Predictions of an arm that is right where `good`, bool (S, n), says so."""
    n = good.shape[1]
    labels = np.arange(n) % k
    rows = np.where(good[..., None], np.eye(k)[labels], np.eye(k)[(labels + 1) % k]) * 4
    columns = {"index": np.arange(n), "labels": labels, "clean": np.ones(n, bool), "subject": np.full(n, "")}
    return pooling.Tested(**columns, logits={"centre": rows, "tencrop": rows}, results=(Ran(),), seeds=seeds)


def test_fused_arms_share_seeds_and_weigh_by_validation():
    """The weight comes from PublicTest, seed by seed; PrivateTest only uses it, whatever would suit it better."""
    right, wrong = np.ones((1, 20), bool), np.zeros((1, 20), bool)
    first, second = np.concatenate([right, wrong]), np.concatenate([wrong, right])
    valid = {"a": predictions_of(first, (0, 1)), "b": predictions_of(second, (0, 1))}
    test = {"a": predictions_of(second, (0, 1)), "b": predictions_of(first, (0, 1))}
    on_valid, on_test, weights = pooling.fused(valid, test, "a", "b")
    assert weights[0] > 0.5 > weights[1]
    assert on_valid.hits().all() and not on_test.hits().any()
    assert on_test.epochs == "3" and len(on_test.results) == 2
    # of a seed that only one arm has nothing is made
    late = {"a": predictions_of(np.concatenate([wrong, right]), (1, 2)), "b": predictions_of(second, (0, 1))}
    _, fused, weights = pooling.fused(late, late, "a", "b")
    assert fused.seeds == (1,) and len(weights) == 1
    assert fused.logits["tencrop"].shape == (1, 20, 7)
    assert weights[0] < 0.5 and fused.hits().all()
    assert pooling.fused(valid, {"a": test["a"]}, "a", "b") is None


@pytest.mark.parametrize("name", ["liu_a", "liu_b", "vgg16"])
def test_dropout_works_in_training_alone(name):
    face = torch.rand(2, 1, 44, 44, generator=torch.Generator().manual_seed(0))
    model = build_model(name, width=0.125, dropout=0.5).eval()
    assert torch.equal(model(face).logits, model(face).logits)
    model.dropout.train()
    torch.nn.init.normal_(model.classifier.weight)
    assert not torch.equal(model(face).logits, model(face).logits)
