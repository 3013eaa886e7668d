"""Tables from archived runs, as pandas frames: accuracies, recalls, paired differences; ours beside the papers'."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from . import evaluate, plans, pooling
from .data import whose
from .papers import METHODS, TITLES, published_gains, published_recalls
from .plans import AVERAGED
from .pooling import Tested
from .runs import Result, Run, find_all
from .siblings import LEFT_OUT, with_and_without

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
    other papers' one by one.  Single networks are means over their seeds; of averaged ones it is the first seed's, whose
    logits are kept (`plans.keeps_logits`).  No rows where nothing was run.
    """

    def held(part) -> tuple[dict[str, Tested], dict[str, Tested]]:
        """Arms of a part of the plan, of all seeds and of the first alone."""
        ours, every, alone = part in (plans.wild_runs, plans.long_runs, plans.strong_runs), {}, {}
        for p in [plans.shown(plan, part)] if ours else reversed(plans.held(plan)):
            found = find_all(part(p), p.name)
            every |= pooling.by_arm(found)
            alone |= pooling.by_arm({run: r for run, r in found.items() if run.seed == 0})
        return every, alone

    tested, first = {}, {}
    for part in (plans.wild_runs, plans.dnnrl_runs, plans.liu_runs, plans.small_runs):
        every, alone = held(part)
        tested |= every
        first |= alone
    one_each = {p: a for p, a in AVERAGED.items() if a in tested}
    titles = {a: f"{p}: {TITLES[a]}" if TITLES[a] != p else p for p, a in one_each.items()}
    rows, longer = {titles[a]: tested[a] for a in one_each.values()}, []
    for part, how in (
        (plans.long_runs, "longer"),
        (plans.long_sibling_runs, "longer"),
        (plans.strong_runs, "longer, by stronger transforms"),
    ):
        every, alone = held(part)
        for arm, t in every.items():
            longer.append(f"{arm}, {how}")
            tested[longer[-1]] = rows[f"{titles.get(arm, TITLES[arm])}, trained {how}"] = t
            first |= {longer[-1]: alone[arm]} if arm in alone else {}
    longest = [f"{a}, longer" if f"{a}, longer" in tested else a for a in one_each.values()]
    own, small = [a for a in plan.arms if a in tested], AVERAGED["Kim et al."]
    papers, arms = f"mean of the {len(one_each)} papers' networks", f"mean of LKRNet's {len(own)} arms"
    sets = {papers: list(one_each.values()), arms: own, f"{arms} and Kim et al.'s": [*own, small]}
    if longer:
        sets[f"{papers}, those trained longer where there are any"] = longest
        sets[f"mean of the {len(longer)} trained longer"] = longer
        sets[f"{arms}, Kim et al.'s and the longer ones"] = [*own, small, *longer]
    for name, some in sets.items():
        if len(some) > 1 and not pooling.lacking(first, *some):
            rows[name] = pooling.averaged(first, some)
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
                    "source": f"{whose(t.results[0].info['dataset'])}, {t.epochs} epochs",
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
    of: str | None = None,
    clusters: bool = False,
    pairs: Sequence[tuple] = PAIRS,
    view: str = "tencrop",
    resolved: bool = False,
) -> pd.DataFrame:
    """Paired differences between arms in percentage points: bootstrap interval and McNemar.

    Parameters
    ----------
    of : "FER2013", "CK+" or "DNNRL": adds what `papers.published_gains` has of it.
    clusters : of the lab, see `pooling.lab_difference`, instead of a bootstrap over images.
    pairs : arms (a, b); a minus b.  ("dnn", "knn") is an arm in a view of its own.
    view : how the others are seen, one of `pooling.VIEWS`; in the lab all of them.
    resolved : add the smallest difference that one such pair finds with a power of 80 %.
    """
    gains = published_gains(of) if of else {}
    rows = []
    for pair in pairs:
        (a, view_a), (b, view_b) = ((x, view) if isinstance(x, str) else x for x in pair)
        own = {view: "", "knn": ", k-NN"}
        titles = [TITLES[x] + own.get(v, f", {v}") for x, v in ((a, view_a), (b, view_b))]
        row = {
            "comparison": " − ".join(titles),
            "paper": gains.get(" minus ".join(titles), np.nan),
            "ours": NOT_RUN,
        }
        if not pooling.lacking(tested, a, b):
            first = tested[a]
            hits, other = pooling.paired(first, tested[b], view=(view_a, view_b))
            tests = [evaluate.mcnemar(x, y) for x, y in zip(hits, other, strict=True)]
            difference = (
                pooling.lab_difference(first, tested[b], view)
                if clusters
                else evaluate.clustered_difference(hits, other)
            )
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
            if resolved:
                smallest = evaluate.resolvable(hits.shape[1], float(np.mean(hits != other)))
                row["resolved by one pair, points"] = round(smallest, 2)
        rows.append(row)
    return pd.DataFrame(rows).set_index("comparison")


def blank(frame: pd.DataFrame) -> pd.DataFrame:
    """For the eye: missing cells empty, and columns of whole numbers without decimals."""
    return frame.convert_dtypes().astype(object).fillna("")


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
