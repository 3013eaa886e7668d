"""Kim et al.'s tables: one network tested on random frames, new sequences and new people, and with hidden parts."""

from __future__ import annotations

from itertools import product

import pandas as pd

from . import evaluate, plans, pooling, protocols
from .papers import ACCURACIES, TITLES, frames_tested, published
from .pooling import Tested
from .runs import Result, Run
from .siblings import sibling_arm
from .tables import NOT_RUN, PRINTED

METHODS = ACCURACIES["Kim2022"]
"""Kim et al.'s own methods and the arms; the second is missing from their Table 2, its value follows from the text."""

PROTOCOLS = {p: protocols.TITLES[p] for p in plans.KIM_PROTOCOLS}
"""Protocol under which Kim et al.'s networks are tested -> what is new about a test frame."""


def by_split(results: dict[Run, Result]) -> pd.DataFrame:
    """One row a finished run of Kim et al.'s: network, protocol, seed, fold, sizes, epochs, accuracy clean and occluded.

    And the epoch in which it fell back, if it did.
    """
    rows = [
        {
            "network": network_title(run),
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


def network_title(run: Run) -> str:
    """The arm of a run of Kim et al.'s, and whether it is the printed recipe unchanged."""
    arm = run.recipe.arm
    return TITLES[arm] + PRINTED * (run.recipe == sibling_arm("kim", arm))


def table2(
    results: dict[Run, Result],
    null: pd.DataFrame | None = None,
    printed_runs: dict[Run, Result] | None = None,
) -> pd.DataFrame:
    """Kim et al.'s Table 2 beside ours under each protocol, in per cent.

    Ours: test frames of all finished splits pooled, centre view, with intervals from a bootstrap over subjects.

    Parameters
    ----------
    null : `untrained.nearest_pixels`, for the last row: mean over splits, and the range of 95 % of them.
    printed_runs : by the printed recipe, for rows of their own below those of the same network.
    """
    printed = {r["method"]: r["value"] for r in published("Kim2022") if r["metric"] == "accuracy_percent"}
    in_table = {r["method"] for r in published("Kim2022", "Table 2")}
    methods = [*(m for m in printed if m not in METHODS), *METHODS]
    lead = next(r["value"] for r in published("Kim2022") if r["method"].startswith("ViT+SE"))
    value = f"({float(printed[methods[-1]]) + float(lead):.2f}, from {lead})"
    rows = [{"method": "ViT+SE [12]", "paper": value}]
    for method, of in product(methods, (results, printed_runs or {})):
        arm = METHODS.get(method)
        row = {"method": TITLES.get(arm, method) + PRINTED * (of is not results)}
        row["paper"] = printed[method] if method in in_table else f"({printed[method]}, from 0.48)"
        own = {p: pooling.same_folds(_under(of, p), arm).get(arm) for p in PROTOCOLS}
        there = [t for t in own.values() if t]
        if of is not results and not there:
            continue
        for protocol, title in PROTOCOLS.items():
            t = own[protocol]
            row[title] = pooling.mean_accuracy(t.hits("centre"), t.subject) if t else NOT_RUN if arm else ""
        if there:
            row["splits"] = ", ".join(str(len(t.folds) if t else 0) for t in own.values())
            row["epochs"] = pooling.joined(r.info["epochs"] for t in there for r in t.results)
        rows.append(row)
    if null is not None:
        values = {p: null.loc[null["protocol"] == p, "accuracy"] for p in PROTOCOLS}
        row = {"method": "nearest pixels, untrained", "paper": ""}
        for protocol, title in PROTOCOLS.items():
            a = values[protocol]
            row[title] = str(evaluate.Estimate(a.mean(), *a.quantile([0.025, 0.975])))
        rows.append(row | {"splits": ", ".join(str(len(a)) for a in values.values()), "epochs": "0"})
    return pd.DataFrame(rows).set_index("method").fillna("")


def differences(results: dict[Run, Result]) -> pd.DataFrame:
    """Differences between Kim et al.'s arms on the same test frames (centre view), in points, under each protocol.

    Two ways: the corrected resampled t over splits, of `pooling.FEWEST` and more, and a bootstrap over subjects of the pooled
    frames.
    """
    gains, rows = _gains(), []
    for (a, b), protocol in product(gains, PROTOCOLS):
        row = {
            "comparison": f"{TITLES[a]} − {TITLES[b]}",
            "protocol": PROTOCOLS[protocol],
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


def occlusion(results: dict[Run, Result], printed_runs: dict[Run, Result] | None = None) -> pd.DataFrame:
    """Trained with and without occlusion, tested on clean and on occluded faces: `Estimate`s in per cent.

    The columns "occlusion costs" and the rows "gain" are paired differences in points; all intervals come from a
    bootstrap over subjects.  Splits on which a run of either kind fell back are left out in rows of their own.

    Parameters
    ----------
    printed_runs : of the same arms by the printed recipe, for rows of their own.
    """
    rows = []
    for (protocol, title), (own, recipe) in product(
        PROTOCOLS.items(), ((results, ""), (printed_runs or {}, PRINTED))
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
    """Rows of `occlusion` for runs trained on occluded and on clean faces, on the same splits."""
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


def arithmetic() -> pd.DataFrame:
    """Kim et al.'s own accuracies and differences as numbers of their test images."""
    n = frames_tested()
    value = {
        r["method"]: float(r["value"])
        for r in published("Kim2022")
        if r["metric"] in ("accuracy_percent", "accuracy_delta_points")
    }
    resnet18, softmax, triplet = (value[m] for m in METHODS)
    accuracies = {TITLES[arm]: value[method] for method, arm in METHODS.items()}
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


def _gains() -> dict[tuple[str, str], str]:
    """Pairs of arms -> difference as the text prints it or Table 2 gives it."""
    text = {r["method"]: r["value"] for r in published("Kim2022") if r["metric"] == "accuracy_delta_points"}
    table = {r["method"]: float(r["value"]) for r in published("Kim2022", "Table 2")}
    first, last = list(METHODS)[0], list(METHODS)[-1]
    return {
        ("kim", "kim-softmax"): text["Triplet minus Softmax (both modified ResNet)"],
        ("kim-softmax", "kim-resnet18"): text["STN+modified ResNet minus STN+ResNet18"],
        ("kim", "kim-resnet18"): f"{table[last] - table[first]:.2f}",
    }


def _under(results: dict[Run, Result], protocol: str) -> dict[Run, Result]:
    """Those of the runs that were tested under the protocol."""
    return {run: r for run, r in results.items() if run.protocol == protocol}
