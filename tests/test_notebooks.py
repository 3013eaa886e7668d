"""The committed notebooks: run to the end, with the demo profile, so that no licensed face can be in them."""

import ast
import importlib.util
import re
from types import ModuleType, SimpleNamespace

import nbformat
import nbval.kernel
import numpy as np
import pandas as pd
import pytest
from kernels import OnFiles

from fercompanion import evaluate, explain, papers, plans, pooling, tables, untrained
from fercompanion.data import FER_CLASSES
from fercompanion.embed import triplet_distances
from fercompanion.runs import ROOT, find_all

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
DEFAULTS = {"profile": "demo", "network": "demo", "root": "", "photo": ""}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_committed_with_the_outputs_of_the_demo_profile(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    parameters = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    assert len(parameters) == 1
    values = {n.target.id: ast.literal_eval(n.value) for n in ast.parse(parameters[0].source).body}
    assert values and all(DEFAULTS[name] == value for name, value in values.items())
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [o for cell in code for o in cell.outputs if o.output_type == "error"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_no_function_lives_in_a_notebook(path):
    code = "\n".join(c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code")
    assert not re.search(r"^\s*(def|class) ", code, re.M)


def test_the_readme_names_every_notebook():
    text = (ROOT / "README.md").read_text()
    assert NOTEBOOKS and all(path.name in text for path in NOTEBOOKS)


def test_what_readmes_python_names_is_there():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert len(blocks) == 3
    for block in blocks:
        names, tree = {}, ast.parse(block)
        for node in tree.body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                exec(ast.unparse(node), names)
        used = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)]
        modules = [(names[n.value.id], n.attr) for n in used if isinstance(names.get(n.value.id), ModuleType)]
        assert all(hasattr(module, attribute) for module, attribute in modules)


def test_what_the_prose_says_of_the_archive_is_so(monkeypatch):
    """Sentences without a number beside them: notebooks 04, 05, 07, 08 and 09."""
    monkeypatch.delenv("FERCOMPANION_RESULTS")
    wild, seed0 = plans.profile("paper"), {}
    for run, result in find_all(plans.wild_runs(wild, plans.FACTORIAL), "paper").items():
        seed0.setdefault(run.recipe.arm, result)
    lkrnet = tables.confusion_mean(
        pooling.by_arm(find_all(plans.wild_runs(wild, ("lkrnet",)), "paper"))["lkrnet"]
    )
    share = lkrnet / lkrnet.sum(1, keepdims=True)
    for true, taken, one_in in (("disgust", "anger", 4), ("sadness", "neutral", 5), ("fear", "sadness", 6)):
        assert abs(share[FER_CLASSES.index(true), FER_CLASSES.index(taken)] - 1 / one_in) < 0.04
    heat = {arm: explain.cam_summary(r, None, None) for arm, r in seed0.items() if arm in ("vgg19", "lkrnet")}
    both = np.isfinite(heat["vgg19"].mass) & np.isfinite(heat["lkrnet"].mass)
    mean = {arm: s.mass[both].mean() for arm, s in heat.items()}
    assert heat["vgg19"].uniform + 0.1 < mean["lkrnet"] < mean["vgg19"]

    cpu = plans.profile("paper-cpu")
    for profile, for_fear in ((wild, 1 / 9), (cpu, 0.28)):  # LKRNet on new people of CK+
        people = pooling.same_folds(find_all(plans.lab_runs(profile, ("subject",)), profile.name))["lkrnet"]
        taken, names = tables.confusion_mean(people), people.results[0].info["classes"]
        taken = pd.DataFrame(taken / taken.sum(1, keepdims=True), names, names)
        assert abs(taken.loc["contempt", "fear"] - for_fear) < 0.04
        sadness = taken.loc["sadness"].drop("sadness")
        assert sadness["disgust"] == 0 and sadness.idxmax() == "anger"
    found = find_all(plans.wild_runs(cpu, tuple(plans.LAMBDAS)), "paper-cpu")
    sweep = pd.DataFrame({plans.LAMBDAS[run.recipe.arm]: r.info["embedding"] for run, r in found.items()})
    inter, ratio, silhouette = (sweep.sort_index(axis=1).loc[x] for x in ("inter", "ratio", "silhouette"))
    assert inter.is_monotonic_decreasing and ratio.idxmin() == 0 and ratio.idxmax() == 0.1
    assert silhouette.idxmin() == 0.4 and np.ptp(silhouette) < 0.03
    violated = {
        run.recipe.arm: (triplet_distances(r) <= 0).mean()
        for run, r in find_all(plans.dnnrl_runs(cpu), "paper-cpu").items()
        if run.recipe.arm != "alexnet" and run.seed == 0
    }
    assert 0.45 < violated.pop("dnnrl") < 0.55 and max(violated.values()) < 0.45
    dnnrl = pooling.by_arm(find_all(plans.dnnrl_runs(cpu), "paper-cpu"))
    right = {
        arm: t.hits("centre").mean() for arm, t in dnnrl.items()
    }  # by k-NN where no classifier is trained
    grey, before = (hits.mean() for hits, _, _ in untrained.floors(cpu).values())
    assert right["dnnrl"] < before
    assert right["dnnrl"] < grey < right["dnnrl-unclamped"] < right["tdnn"] < right["dnn"] - 0.1
    own = dnnrl["dnn"].hits("knn").mean()
    for arm in ("dnn", "tdnn-joint", "dnnrl-joint"):
        assert abs(dnnrl[arm].hits("knn").mean() - own) < 0.01 and abs(right[arm] - own) < 0.01
    joint = evaluate.clustered_difference(
        *pooling.paired(dnnrl["dnnrl-joint"], dnnrl["tdnn-joint"], view="knn")
    )
    assert (
        len(dnnrl["dnnrl-joint"].seeds) == 5
        and joint.low < -0.5 < 0 < joint.high
        and abs(joint.value + 1) < 0.3
    )
    liu = pooling.by_arm(find_all(plans.liu_runs(cpu), "paper-cpu"))
    ratio = {arm: t.results[0].info["embedding"]["ratio"] for arm, t in liu.items()}
    assert ratio["liu-a"] < ratio["liu-a-no-center"]
    accuracy = {arm: [t.hits(view).mean() for view in ("centre", "tencrop")] for arm, t in liu.items()}
    assert accuracy["liu-a"][1] < accuracy["liu-a-no-center"][1]
    assert accuracy["liu-b"][0] < accuracy["liu-b-48"][0] and accuracy["liu-b"][1] > accuracy["liu-b-48"][1]
    valid = pooling.by_arm(find_all(plans.liu_runs(cpu), "paper-cpu"), "valid")
    both = pooling.fused(valid, liu, "liu-a", "liu-b")[1].hits().mean()
    assert abs(both - accuracy["liu-a"][1]) < 0.002 and both < min(
        accuracy[a][1] for a in ("liu-vgg16", "liu-vgg19")
    )
    assert accuracy["liu-b-bicubic"][1] > accuracy["liu-b"][1]
    ratio = pd.read_csv(ROOT / "figures/paper-cpu/kim-distances.csv").set_index(["protocol", "arm"])["ratio"]
    triplet, softmax, resnet18 = (papers.TITLES[a] for a in ("kim", "kim-softmax", "kim-resnet18"))
    at_random = [round(ratio["random frames", a], 1) for a in (triplet, softmax, resnet18)]
    assert at_random == [7.6, 6.0, 10.7]
    assert [round(ratio["new people", a], 1) for a in (triplet, softmax)] == [3.4, 3.7]
    longer = {
        r.recipe.name: result for r, result in find_all(plans.long_sibling_runs(cpu), "paper-cpu").items()
    }
    assert round(longer["long-liu-a"].info["metrics"]["test_tencrop"]) == 66
    brings = tables.ingredients(liu).map(lambda x: float(str(x).partition(" [")[0]))
    beside = brings.filter(like="beside ")
    assert beside.loc["PReLU"].dropna().min() > 0 > brings.loc["augmentation", "difference"]
    center = beside.loc["center loss"].dropna()
    assert center["beside PReLU and augmentation"] < 0 < center["beside augmentation"]
    assert center.drop("beside PReLU and augmentation").min() >= 0


def test_nbval_compares_no_warnings_and_its_kernels_listen_on_files():
    place = importlib.util.spec_from_file_location("notebooks_conftest", ROOT / "notebooks" / "conftest.py")
    place.loader.exec_module(conftest := importlib.util.module_from_spec(place))
    conftest.pytest_collectstart(collector := SimpleNamespace(skip_compare=("metadata",)))
    assert collector.skip_compare == ("metadata", "stderr")
    assert issubclass(nbval.kernel.KernelManager, OnFiles)
