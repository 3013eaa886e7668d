"""Tables from archived runs, as pandas frames: accuracies, recalls, paired differences; ours beside the papers'."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd

from . import evaluate, plans, pooling, protocols
from .papers import ACCURACIES, METHODS, TITLES, published, published_gains, published_recalls
from .pooling import Tested
from .runs import AVERAGED, Result, Run, find_all
from .siblings import LEFT_OUT, sibling_arm, with_and_without

PAIRS = (
    ("baseline1", "vgg19"),
    ("baseline2", "vgg19"),
    ("lkrnet", "vgg19"),
    ("lkrnet", "baseline1"),
    ("lkrnet", "baseline2"),
    ("lkrnet", "lkrnet-lambda0.4"),
    ("lkrnet", "lkrnet-shuffled-mask"),
    ("lkrnet", "lkrnet-mean-mask"),
)
"""Comparisons of Sect. 4.3.4, and those of the controls."""

NOT_RUN = "not run"

PRINTED = ", printed recipe"
"""After the name of an arm whose runs by the paper's own recipe stand beside shortened ones."""


def together(plan: plans.Profile) -> pd.DataFrame:
    """The four papers' networks in the wild, one by one and as means of their softmaxes (TenCrop).

    Averaged are one network a paper, the same where it was trained longer, LKRNet's arms, those trained longer, and all
    of them: these sets stand here, whatever comes out.  LKRNet's arms are those of the first profile that has any, the
    other papers' one by one.  No rows where nothing was run.
    """

    def held(part) -> dict[str, Tested]:
        ours = part in (plans.wild_runs, plans.long_runs, plans.strong_runs)
        profiles = [plans.shown(plan, part)] if ours else reversed(plans.held(plan))
        return {arm: t for p in profiles for arm, t in pooling.by_arm(find_all(part(p), p.name)).items()}

    tested = {}
    for part in (plans.wild_runs, plans.dnnrl_runs, plans.liu_runs, plans.small_runs):
        tested |= held(part)
    one_each = {p: a for p, a in AVERAGED.items() if a in tested}
    titles = {a: f"{p}: {TITLES[a]}" if TITLES[a] != p else p for p, a in one_each.items()}
    rows, longer = {titles[a]: tested[a] for a in one_each.values()}, []
    for part, how in (
        (plans.long_runs, "longer"),
        (plans.long_sibling_runs, "longer"),
        (plans.strong_runs, "longer, by stronger transforms"),
    ):
        for arm, t in held(part).items():
            longer.append(f"{arm}, {how}")
            tested[longer[-1]] = rows[f"{titles.get(arm, TITLES[arm])}, trained {how}"] = t
    longest = [f"{a}, longer" if f"{a}, longer" in tested else a for a in one_each.values()]
    own, small = [a for a in plan.arms if a in tested], AVERAGED["Kim et al."]
    papers, arms = f"mean of the {len(one_each)} papers' networks", f"mean of LKRNet's {len(own)} arms"
    sets = {papers: list(one_each.values()), arms: own, f"{arms} and Kim et al.'s": [*own, small]}
    if longer:
        sets[f"{papers}, those trained longer where there are any"] = longest
        sets[f"mean of the {len(longer)} trained longer"] = longer
        sets[f"{arms}, Kim et al.'s and the longer ones"] = [*own, small, *longer]
    for name, some in sets.items():
        if len(some) > 1 and not pooling.lacking(tested, *some):
            rows[name] = pooling.averaged(tested, some)
    table = []
    for name, t in rows.items():
        row = {"network": name, "PrivateTest, %": pooling.mean_accuracy(t.hits()), "n": f"{len(t.labels):,}"}
        if not t.clean.all():
            row["without copies in Training"] = pooling.mean_accuracy(t.hits()[:, t.clean])
        width = pooling.joined(r.recipe.width for r in t.results)
        table.append(row | {"width": width, "epochs": t.epochs, "seeds": len(t.seeds)})
    return _frame(table, "network")


def accuracies(tested: dict[str, Tested], clusters: bool = False) -> pd.DataFrame:
    """Accuracy of each arm in per cent, mean over seeds, by crop and by set of images, with 95 % intervals.

    Parameters
    ----------
    clusters : bootstrap subjects instead of assuming independent images (CK+).
    """
    rows = []
    for arm, t in tested.items():
        metrics = [r.info["metrics"] for r in t.results]
        row = {"arm": TITLES[arm], "epochs": t.epochs, "seeds": len(t.seeds), "n": len(t.labels)}
        for title, view in (("centre crop", "centre"), ("TenCrop", "tencrop")):
            row[title] = pooling.mean_accuracy(t.hits(view), t.subject if clusters else None)
            if not t.clean.all():  # in the lab all are
                name = f"{title}, {int(t.clean.sum()):,} without a copy in Training"
                row[name] = pooling.mean_accuracy(t.hits(view)[:, t.clean])
        size = np.array([r.info["n"]["test"] for r in t.results], float)
        for title, key in (("last epoch", "test_last_epoch"), ("best test epoch", "test_selected_maximum")):
            row[f"centre, {title}"] = round(float(np.average([m[key] for m in metrics], weights=size)), 2)
        rows.append(row)
    return _frame(rows, "arm")


def confusion_mean(tested: Tested, view: str = "tencrop") -> np.ndarray:
    """Confusion matrix (K, K) of an arm, mean over seeds."""
    k = len(tested.results[0].info["classes"])
    return np.mean([evaluate.confusion(tested.labels, p, k) for p in tested.predicted(view)], axis=0)


def recall_table(tested: dict[str, Tested], classes: tuple[str, ...], item: str) -> pd.DataFrame:
    """LKRNet's Table 2 or 3: recall in per cent by class, the printed row above ours (TenCrop, mean over seeds).

    The last row counts the images; it is empty where no network was run.

    Parameters
    ----------
    item : "Table 2" (CK+) or "Table 3" (FER2013).
    """
    counts = [np.nan] * len(classes)
    rows = []
    for method, values in published_recalls(item, classes).items():
        arm = METHODS.get(method)
        row = {
            "method": TITLES.get(arm, method),
            "source": "paper",
            **dict(zip(classes, values, strict=True)),
        }
        rows.append(row | {"mean recall": values.mean()})
        if arm in tested:
            t = tested[arm]
            ours = [100 * t.hits()[:, t.labels == k].mean() for k in range(len(classes))]
            counts = np.bincount(t.labels, minlength=len(classes))
            rows.append(
                {
                    "method": TITLES[arm],
                    "source": f"ours, {t.epochs} epochs",
                    **dict(zip(classes, np.round(ours, 1), strict=True)),
                    "mean recall": np.mean(ours),
                    "accuracy": 100 * t.hits().mean(),
                }
            )
        elif arm:
            rows.append({"method": TITLES[arm], "source": NOT_RUN})
    frame = pd.DataFrame(rows)
    frame.loc[len(frame)] = {"method": "images", "source": "n", **dict(zip(classes, counts, strict=True))}
    return frame.set_index(["method", "source"]).astype(float).round(1)


def differences(
    tested: dict[str, Tested],
    dataset: str | None = None,
    clusters: bool = False,
    pairs: tuple[tuple[str, str], ...] = PAIRS,
) -> pd.DataFrame:
    """Paired differences between arms in percentage points, TenCrop: bootstrap interval and McNemar.

    Parameters
    ----------
    dataset : "FER2013" or "CK+": adds what Sect. 4.3.4 printed.
    clusters : of the lab, see `pooling.lab_difference`, instead of a bootstrap over images.
    pairs : arms (a, b); a minus b.
    """
    gains = published_gains(dataset) if dataset else {}
    rows = []
    for a, b in pairs:
        name = f"{TITLES[a]} − {TITLES[b]}"
        row = {
            "comparison": name,
            "paper": gains.get(f"{TITLES[a]} minus {TITLES[b]}", np.nan),
            "ours": NOT_RUN,
        }
        if not pooling.lacking(tested, a, b):
            first = tested[a]
            hits, other = pooling.paired(first, tested[b])
            tests = [evaluate.mcnemar(x, y) for x, y in zip(hits, other, strict=True)]
            alone = evaluate.clustered_difference(hits, other)
            difference = pooling.lab_difference(first, tested[b]) if clusters else alone
            row |= {
                "ours": str(difference),
                "seeds": len(hits),
                "only first / only second right": "; ".join(f"{m.only_first}/{m.only_second}" for m in tests),
            }
            if not (clean := first.clean).all():  # in the lab all are
                row["ours, without copies in Training"] = str(
                    evaluate.clustered_difference(hits[:, clean], other[:, clean])
                )
            if not clusters:
                row["McNemar p by seed"] = "; ".join(f"{m.p:.2g}" for m in tests)
        rows.append(row)
    return pd.DataFrame(rows).set_index("comparison")


def _frame(rows: list[dict], index: str) -> pd.DataFrame:
    """A frame with the named index, also for no rows."""
    return pd.DataFrame(rows).set_index(index) if rows else pd.DataFrame(index=pd.Index([], name=index))


def ingredients(tested: dict[str, Tested]) -> pd.DataFrame:
    """What center loss, PReLU and augmentation bring Liu et al.'s model A, each over the settings of the other two.

    Points on the test images (TenCrop) with bootstrap intervals over images and seeds; no rows if one of the eight
    networks is missing.
    """
    rows, hits = [], pooling.model_a_hits(tested)
    for part in LEFT_OUT if hits else ():
        own, other = pooling.main_effect(hits, part)
        index, clean = (np.tile(x, 4) for x in (tested["liu-a"].index, tested["liu-a"].clean))
        row = {
            "ingredient": part,
            "with it, %": 100 * own.mean(),
            "without, %": 100 * other.mean(),
            "difference": str(evaluate.clustered_difference(own, other, index)),
        }
        if not clean.all():
            row["difference, without copies in Training"] = str(
                evaluate.clustered_difference(own[:, clean], other[:, clean], index[clean])
            )
        for there, (a, b) in with_and_without(part).items():
            name = f"beside {' and '.join(there) or 'neither of the others'}"
            row[name] = str(evaluate.clustered_difference(hits[a], hits[b]))
        rows.append(row)
    return _frame(rows, "ingredient")


def implied(item: str, classes: tuple[str, ...], counts: dict[str, int]) -> pd.DataFrame:
    """The overall accuracy that each printed row of recalls implies on the data set's class counts."""
    n = np.array([counts[c] for c in classes])
    rows = {}
    for method, values in published_recalls(item, classes).items():
        if not np.isnan(values).any():
            e = evaluate.implied_accuracy(values, n)
            rows[TITLES.get(METHODS.get(method), method)] = {
                "implied accuracy": round(e.value, 2),
                "lowest": round(e.low, 2),
                "highest": round(e.high, 2),
            }
    return pd.DataFrame(rows).T


def provenance(results: dict[Run, Result]) -> pd.DataFrame:
    """One line a recipe and protocol: data hash, versions, machine, commit ("+changes": of files not committed), time."""
    rows = []
    for run, result in results.items():
        i = result.info
        rows.append(
            {
                "run": f"{run.dataset}/{run.recipe.name}/{run.protocol}",
                "runs": 1,
                "data": i["data_sha256"][:12],
                "torch": i["versions"]["torch"],
                "machine": i["machine"],
                "commit": i["commit"],
                "minutes": (i["train_seconds"] + i["predict_seconds"]) / 60,
            }
        )
    keys = ["run", "data", "torch", "machine", "commit"]
    if not rows:
        return _frame(rows, "run")
    frame = pd.DataFrame(rows).groupby(keys, sort=False, as_index=False).sum()
    return frame.set_index("run").round({"minutes": 1})


def text_against_itself(dataset: str) -> pd.DataFrame:
    """Sect. 4.3.4 prints each baseline's gain over VGG19, and enough other gains to compute it: both, in points."""
    g = published_gains(dataset)
    rows = []
    for baseline in ("Baseline 1", "Baseline 2"):
        follows = g["LKRNet minus VGG19"] - g[f"LKRNet minus {baseline}"]
        printed = g[f"{baseline} minus VGG19"]
        rows.append(
            {
                "data": dataset,
                "difference": f"{baseline} minus VGG19",
                "printed": printed,
                "follows": round(follows, 3),
            }
        )
    return pd.DataFrame(rows).set_index(["data", "difference"])


KIM_METHODS = ACCURACIES["Kim2022"]
"""Kim et al.'s own methods and the arms; the second is missing from their Table 2, its value follows from the text."""

PROTOCOL_TITLES = {p: protocols.TITLES[p] for p in plans.KIM_PROTOCOLS}
"""Protocol under which Kim et al.'s networks are tested -> what is new about a test frame."""


def by_split(results: dict[Run, Result]) -> pd.DataFrame:
    """One row a finished run of Kim et al.'s: network, protocol, seed, fold, sizes, epochs, accuracy clean and occluded.

    And the epoch in which it fell back, if it did.
    """
    rows = [
        {
            "network": kim_title(run),
            "protocol": run.protocol,
            "seed": run.seed,
            "fold": run.fold,
            "n_train": r.info["n"]["train"],
            "n_test": r.info["n"]["test"],
            "epochs": r.info["epochs"],
            "clean": r.info["metrics"]["test_centre"],
            "occluded": r.info["metrics"]["test_occluded"],
            "fell back": pooling.fell_back(r),
        }
        for run, r in results.items()
    ]
    columns = ["network", "protocol", "seed", "fold", "n_train", "n_test", "epochs", "clean", "occluded"]
    return pd.DataFrame(rows, columns=[*columns, "fell back"]).astype({"fell back": "Int64"})


def kim_title(run: Run) -> str:
    """The arm of a run of Kim et al.'s, and whether it is the printed recipe unchanged."""
    arm = run.recipe.arm
    return TITLES[arm] + PRINTED * (run.recipe == sibling_arm("kim", arm))


def blank(frame: pd.DataFrame) -> pd.DataFrame:
    """For the eye: missing cells empty, and columns of whole numbers without decimals."""
    return frame.convert_dtypes().astype(object).fillna("")


def kim_table2(
    results: dict[Run, Result], null: pd.DataFrame | None = None, whole: dict[Run, Result] | None = None
) -> pd.DataFrame:
    """Kim et al.'s Table 2 beside ours under each protocol, in per cent.

    Ours: test frames of all finished splits pooled, centre view, with intervals from a bootstrap over subjects.

    Parameters
    ----------
    null : `untrained.nearest_pixels`, for the last row: mean over splits, and the range of 95 % of them.
    whole : runs by the printed recipe, for rows of their own below those of the same network.
    """
    printed = {r["method"]: r["value"] for r in published("Kim2022") if r["metric"] == "accuracy_percent"}
    in_table = {r["method"] for r in published("Kim2022", "Table 2")}
    methods = [*(m for m in printed if m not in KIM_METHODS), *KIM_METHODS]
    lead = next(r["value"] for r in published("Kim2022") if r["method"].startswith("ViT+SE"))
    value = f"({float(printed[methods[-1]]) + float(lead):.2f}, from {lead})"
    rows = [{"method": "ViT+SE [12]", "paper": value}]
    for method, of in product(methods, (results, whole or {})):
        arm = KIM_METHODS.get(method)
        row = {"method": TITLES.get(arm, method) + PRINTED * (of is not results)}
        row["paper"] = printed[method] if method in in_table else f"({printed[method]}, from 0.48)"
        own = {p: pooling.same_folds(_under(of, p), arm).get(arm) for p in PROTOCOL_TITLES}
        there = [t for t in own.values() if t]
        if of is not results and not there:
            continue
        for protocol, title in PROTOCOL_TITLES.items():
            t = own[protocol]
            row[title] = pooling.mean_accuracy(t.hits("centre"), t.subject) if t else NOT_RUN if arm else ""
        if there:
            row["splits"] = ", ".join(str(len(t.folds) if t else 0) for t in own.values())
            row["epochs"] = pooling.joined(r.info["epochs"] for t in there for r in t.results)
        rows.append(row)
    if null is not None:
        values = {p: null.loc[null["protocol"] == p, "accuracy"] for p in PROTOCOL_TITLES}
        row = {"method": "nearest pixels, untrained", "paper": ""}
        for protocol, title in PROTOCOL_TITLES.items():
            a = values[protocol]
            row[title] = str(evaluate.Estimate(a.mean(), *a.quantile([0.025, 0.975])))
        rows.append(row | {"splits": ", ".join(str(len(a)) for a in values.values()), "epochs": "0"})
    return pd.DataFrame(rows).set_index("method").fillna("")


def kim_differences(results: dict[Run, Result]) -> pd.DataFrame:
    """Differences between Kim et al.'s arms on the same test frames (centre view), in points, under each protocol.

    Two ways: the corrected resampled t over splits, of `pooling.FEWEST` and more, and a bootstrap over subjects of the pooled
    frames.
    """
    gains, rows = _kim_gains(), []
    for (a, b), protocol in product(gains, PROTOCOL_TITLES):
        row = {
            "comparison": f"{TITLES[a]} − {TITLES[b]}",
            "protocol": PROTOCOL_TITLES[protocol],
            "paper": gains[a, b] if protocol == "random" else "",
            "ours, bootstrap over subjects": NOT_RUN,
        }
        if tested := pooling.same_folds(_under(results, protocol), a, b):
            one, other = tested[a], tested[b]
            t = pooling.over_folds(one, other, "centre")
            difference = evaluate.clustered_difference(
                *pooling.paired(one, other, view="centre"), one.subject
            )
            row |= {
                "ours, bootstrap over subjects": str(difference),
                "splits": len(one.folds),
                "ours, corrected t": str(t.difference) if t else "too few splits",
                "p": f"{t.p:.2g}" if t else "",
            }
        rows.append(row)
    return pd.DataFrame(rows).set_index(["comparison", "protocol"])


def kim_occlusion(results: dict[Run, Result], printed: dict[Run, Result] | None = None) -> pd.DataFrame:
    """Trained with and without occlusion, tested on clean and on occluded faces: `Estimate`s in per cent.

    The columns "occlusion costs" and the rows "gain" are paired differences in points; all intervals come from a
    bootstrap over subjects.  Splits on which a run of either kind fell back are left out in rows of their own.

    Parameters
    ----------
    printed : runs of the same arms by the printed recipe, for rows of their own.
    """
    rows = []
    for (protocol, title), (own, recipe) in product(
        PROTOCOL_TITLES.items(), ((results, ""), (printed or {}, PRINTED))
    ):
        title += recipe
        arms, runs = ("kim", "kim-no-occlusion"), _under(own, protocol)
        if both := pooling.same_folds(runs, *arms):
            rows += _two_by_two(title, both)
            whole = pooling.same_folds(pooling.sound(runs, *arms), *arms)
            if whole and (lost := len(both["kim"].folds) - len(whole["kim"].folds)):
                rows += _two_by_two(f"{title}, without {lost} that fell back", whole)
    columns = ["protocol", "trained on", "tested on clean faces", "tested on occluded faces"]
    frame = pd.DataFrame(rows, columns=[*columns, "occlusion costs", "splits"])
    return frame.set_index(["protocol", "trained on"])


def _two_by_two(title: str, tested: dict[str, Tested]) -> list[dict]:
    """Rows of `kim_occlusion` for runs trained on occluded and on clean faces, on the same splits."""
    rows, views = [], ("centre", "occluded")
    hits = {a: [t.hits(view) for view in views] for a, t in tested.items()}
    for name, arm in (("clean faces", "kim-no-occlusion"), ("occluded faces", "kim")):
        (seen, covered), subject = hits[arm], tested[arm].subject
        rows.append(
            {
                "protocol": title,
                "trained on": name,
                "tested on clean faces": pooling.estimate_of(seen, subject),
                "tested on occluded faces": pooling.estimate_of(covered, subject),
                "occlusion costs": evaluate.clustered_difference(seen, covered, subject),
                "splits": len(tested[arm].folds),
            }
        )
    gains = [
        evaluate.clustered_difference(x, y, subject)
        for x, y in zip(hits["kim"], hits["kim-no-occlusion"], strict=True)
    ]
    row = {"protocol": title, "trained on": "gain by training on occluded ones", "splits": rows[0]["splits"]}
    return [*rows, row | {"tested on clean faces": gains[0], "tested on occluded faces": gains[1]}]


def kim_arithmetic() -> pd.DataFrame:
    """Kim et al.'s own accuracies and differences as numbers of their test images."""
    n = next(int(r["value"]) for r in published("Kim2022") if r["class"] == "test frames")
    value = {
        r["method"]: float(r["value"])
        for r in published("Kim2022")
        if r["metric"] in ("accuracy_percent", "accuracy_delta_points")
    }
    resnet18, softmax, triplet = (value[m] for m in KIM_METHODS)
    accuracies = {TITLES[arm]: value[method] for method, arm in KIM_METHODS.items()}
    gains = {
        "triplet − softmax, text": value["Triplet minus Softmax (both modified ResNet)"],
        "ResNet-10 − ResNet-18, text": value["STN+modified ResNet minus STN+ResNet18"],
        "the same from Table 2 (triplet − softmax of ResNet-18)": triplet - resnet18,
        "ResNet-10 softmax − ResNet-18 softmax, from 0.48": softmax - resnet18,
    }
    rows = []
    for name, points in (accuracies | gains).items():
        images = points * n / 100
        k = round(images)
        rows.append(
            {
                "printed": name,
                "value": round(points, 2),
                "images": k if name in accuracies else round(images, 2),
                f"of {n}, %": 100 * k / n,
                "possible": bool(abs(100 * k / n - points) < 0.01),
                "Clopper-Pearson": str(evaluate.exact_accuracy(k, n)) if name in accuracies else "",
            }
        )
    return pd.DataFrame(rows).set_index("printed").round(3)


def _kim_gains() -> dict[tuple[str, str], str]:
    """Pairs of arms -> difference as the text prints it or Table 2 gives it."""
    text = {r["method"]: r["value"] for r in published("Kim2022") if r["metric"] == "accuracy_delta_points"}
    table = {r["method"]: float(r["value"]) for r in published("Kim2022", "Table 2")}
    first, last = list(KIM_METHODS)[0], list(KIM_METHODS)[-1]
    return {
        ("kim", "kim-softmax"): text["Triplet minus Softmax (both modified ResNet)"],
        ("kim-softmax", "kim-resnet18"): text["STN+modified ResNet minus STN+ResNet18"],
        ("kim", "kim-resnet18"): f"{table[last] - table[first]:.2f}",
    }


def _under(results: dict[Run, Result], protocol: str) -> dict[Run, Result]:
    """Those of the runs that were tested under the protocol."""
    return {run: r for run, r in results.items() if run.protocol == protocol}
