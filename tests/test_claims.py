"""Claims: synthetic runs that win, lose, tie or fall short; arithmetic by the papers' printed numbers; Holm."""

from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import page_trend_test, ttest_1samp

from fercompanion import (
    arithmetic,
    claims,
    evaluate,
    explain,
    kim_tables,
    papers,
    plans,
    pooling,
    tables,
    untrained,
    verdicts,
)
from fercompanion.claims import Archive
from fercompanion.data import FER_CLASSES, DataError
from fercompanion.evaluate import Estimate
from fercompanion.runs import Result, Run
from fercompanion.siblings import LEFT_OUT, model_a
from fercompanion.verdicts import FAILS, HOLDS, NONE, NOT_RUN, OPEN, UNTESTABLE, Claim, Effect, Judgement

WHOLE = verdicts._whole()
PLAN = plans.profile("paper")
BY_ID = {c.id: c for c in claims.CLAIMS}


def whole(arm: str, protocol: str):
    """The recipe of the profile "paper" for an arm in the wild ("official") or in the lab."""
    return WHOLE[protocol == "official", arm]


def result(
    arm, hits, labels, subject, dataset="fer2013", protocol="official", seed=0, fold=0, **changes
) -> Result:
    """A run whose predictions are right where `hits` (n,) is."""
    logits = np.eye(7, dtype=np.float32)[np.where(hits, labels, (labels + 1) % 7)]
    info = {
        "recipe": asdict(replace(whole(arm, protocol), **changes)),
        "dataset": dataset,
        "data_sha256": "0" * 64,
        "protocol": protocol,
        "classes": list(FER_CLASSES),
        "seed": seed,
        "fold": fold,
        "machine": "CPU, 1 threads, float32",
        "selection": "best PublicTest epoch" if protocol == "official" else "last epoch",
        "n": {"train": 4 * len(hits), "valid": 0, "test": len(hits)},
        "epochs": changes.get("epochs", whole(arm, protocol).epochs),
        "metrics": {f"test_{view}": 100 * float(hits.mean()) for view in ("centre", "tencrop", "occluded")},
        "embedding": {"ratio": 1.0, "inter": 1.0},
    }
    made = Result(info, Path("nowhere"))
    made.__dict__["history"] = {"epoch": np.arange(1, 4), "train_accuracy": np.array([50.0, 80.0, 90.0])}
    made.__dict__["predictions"] = {
        "test_index": np.arange(len(hits)),
        "test_labels": labels,
        "test_clean": np.ones(len(hits), bool),
        "test_subject": subject,
        **{f"test_logits_{view}": logits for view in ("centre", "tencrop", "occluded")},
    }
    return made


def simulated(arm: str, accuracy: float, seeds: int = 5, n: int = 900, **changes) -> pooling.Tested:
    """An arm with that accuracy; harder images are wrong first, so that arms agree on most."""
    rng = np.random.default_rng(0)
    ease, labels = rng.random(n), rng.integers(0, 7, n)
    noise = np.random.default_rng(sum(map(ord, arm))).normal(0, 0.04, (seeds, n))
    hits = ease + noise < accuracy
    runs = tuple(result(arm, row, labels, np.arange(n), seed=s, **changes) for s, row in enumerate(hits))
    logits = np.stack([r.predictions["test_logits_centre"] for r in runs])
    views = {"centre": logits, "tencrop": logits}
    index = np.arange(n)
    return pooling.Tested(
        index, labels, np.ones(n, bool), index.astype(str), views, runs, tuple(range(seeds))
    )


def archive(**fields) -> Archive:
    empty = {k: {} for k in ("wild", "longer", "literal", "lab", "dnnrl", "joined", "liu", "liu_valid")}
    kim = {p: {} for p in plans.KIM_PROTOCOLS}
    return Archive(PLAN, **empty | {"kim": kim, "kim_printed": kim} | fields)


def wild(accuracy: dict[str, float], **how) -> Archive:
    return archive(wild={arm: simulated(arm, a, **how) for arm, a in accuracy.items()})


# --- differences ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "first, how, verdict, word",
    [
        (0.72, {}, HOLDS, "above 0"),
        (0.66, {}, FAILS, "below 0"),
        (0.6925, {}, OPEN, "includes 0"),
        (0.72, {"epochs": 5}, OPEN, "5 epochs instead of 40"),
        (0.66, {"width": 0.5}, OPEN, "0.5 times as wide"),
        (0.72, {"dataset": "demo"}, OPEN, "synthetic faces"),
    ],
)
def test_a_difference(first, how, verdict, word):
    j = BY_ID["L3"].judge(wild({"baseline2": first, "vgg19": 0.69}, **how))
    assert (j.verdict, word in j.why) == (verdict, True), j
    assert j.published == "+1.62" and j.effects[0].published == 1.616
    assert np.isnan(j.p) == bool(how)  # runs that fall short take no part in Holm's correction
    assert bool(j.needs) == (verdict == OPEN)


def test_few_pairs_of_runs_must_differ_by_what_they_resolve():
    e = Effect("", NONE, Estimate(1.2, 0.1, 2.3), 0.03, runs=1)
    assert replace(e, runs=4).verdict == e.verdict == OPEN and replace(e, runs=5).verdict == HOLDS
    assert e.resolvable == pytest.approx(1.1 * 2.8016 / 1.96, rel=1e-3)
    discordant = 0.15
    half = 100 * 1.96 * np.sqrt(discordant / 3589)
    as_tables = Effect("", NONE, Estimate(0, -half, half), 1, 1).resolvable
    assert as_tables == pytest.approx(evaluate.resolvable(3589, discordant), rel=1e-3)


def test_all_of_several_differences_must_hold():
    good = {"vgg19": 0.66, "baseline1": 0.67, "baseline2": 0.68, "lkrnet": 0.72}
    j = BY_ID["L4"].judge(wild(good))
    assert j.verdict == HOLDS and len(j.effects) == 3 and j.p == max(e.p for e in j.effects)
    assert j.published == "+3.13; +2.84; +1.89"
    assert BY_ID["L4"].judge(wild(good | {"baseline2": 0.75})).verdict == FAILS
    assert BY_ID["L4"].judge(wild(good | {"baseline2": 0.7195})).verdict == OPEN
    missing = BY_ID["L4"].judge(wild({k: v for k, v in good.items() if k != "baseline2"}))
    assert missing.verdict == NOT_RUN and "Baseline 2" in missing.needs and "Baseline 1" not in missing.needs
    assert "LKRNet − VGG19" in missing.ours


@pytest.mark.parametrize(("vgg19", "verdict"), [(0.69, HOLDS), (0.70, HOLDS), (0.72, OPEN)])
def test_longer_runs_are_shown_beside_and_settle_nothing_but_may_unsettle(vgg19, verdict):
    short = wild({"vgg19": 0.66, "baseline1": 0.67, "baseline2": 0.68, "lkrnet": 0.72})
    longer = {a: simulated(a, x, epochs=90) for a, x in (("vgg19", vgg19), ("lkrnet", 0.70))}
    for claim in ("L1", "L4"):
        before, after = (BY_ID[claim].judge(x) for x in (short, replace(short, longer=longer)))
        assert after.ours.startswith(f"{before.ours}; longer, not judged (90 epochs): ")
        assert after.verdict == (verdict if claim == "L4" else before.verdict)
    assert before.verdict == HOLDS and ("90 epochs say the opposite" in after.why) == (verdict == OPEN)
    assert "LKRNet − VGG19 " in after.ours.split("90 epochs")[1]
    if vgg19 == 0.72:
        assert "LKRNet − VGG19 -" in after.ours.split("90 epochs")[1]
    # That another arm beats LKRNet they do not know.
    short = wild({"vgg19": 0.66, "baseline1": 0.67, "baseline2": 0.76, "lkrnet": 0.72})
    longer = {a: simulated(a, x, epochs=90) for a, x in (("vgg19", 0.66), ("lkrnet", 0.72))}
    assert BY_ID["L4"].judge(replace(short, longer=longer)).verdict == FAILS
    short = wild({"vgg19": 0.78, "baseline1": 0.67, "baseline2": 0.68, "lkrnet": 0.72})
    assert BY_ID["L4"].judge(replace(short, longer=longer)).verdict == OPEN
    alone = BY_ID["L4"].judge(archive(longer=longer))
    assert alone.verdict == NOT_RUN and alone.ours.startswith("longer, not judged (90 epochs): LKRNet")


def test_what_is_missing_is_sent_to_the_profile_that_has_it():
    short = replace(archive(), plan=plans.profile("paper-cpu"))
    assert BY_ID["L3"].judge(short).needs == "PROFILE=paper-cpu: Baseline 2; VGG19"
    demo = replace(short, plan=plans.profile("demo"))  # its lab has two arms
    assert BY_ID["L10"].judge(demo).needs.startswith("PROFILE=paper: ")
    assert BY_ID["L12"].judge(demo).needs.startswith("PROFILE=paper: ")
    group = {"liu-a": simulated("liu-a", 0.7, n=50)}
    assert BY_ID["M1"].judge(replace(short, liu=group)).needs == "PROFILE=paper-cpu: Model B, SRGAN"


def test_a_claim_is_judged_where_it_is_settled_or_else_where_it_was_run(monkeypatch):
    """The profile's own runs first; those of the other only if they say more."""
    weak = {arm: simulated(arm, a, seeds=1) for arm, a in {"vgg19": 0.7, "baseline1": 0.71}.items()}
    strong = {arm: simulated(arm, a) for arm, a in {"vgg19": 0.6, "baseline1": 0.7, "baseline2": 0.7}.items()}
    both = {
        "paper": archive(wild=weak),
        "paper-cpu": replace(archive(wild=strong), plan=plans.profile("paper-cpu")),
    }
    monkeypatch.setattr(claims, "read", lambda plan, root: both[plan.name])
    judged = {j.claim.id: j for j in claims.judge_all(PLAN)}
    assert (judged["L2"].verdict, judged["L2"].profile) == (HOLDS, "paper-cpu")
    assert (judged["L3"].verdict, judged["L3"].profile) == (HOLDS, "paper-cpu")  # not run in the first
    assert (judged["L1"].verdict, judged["L1"].profile) == (OPEN, "paper")
    assert judged["L10"].verdict == NOT_RUN and judged["L10"].profile == judged["L8"].profile == ""
    other = {arm: simulated(arm, a, seeds=1) for arm, a in {"vgg19": 0.6, "baseline1": 0.605}.items()}
    both["paper-cpu"] = replace(both["paper-cpu"], wild=other)
    assert next(j for j in claims.judge_all(PLAN) if j.claim.id == "L2").profile == "paper"
    assert claims.sources(list(judged.values())) == "from paper L1; from paper-cpu L2, L3."


def test_the_lab_has_a_schedule_of_its_own():
    few = {arm: simulated(arm, 0.7, protocol="subject", epochs=50) for arm in plans.FACTORIAL}
    assert BY_ID["L10"].judge(archive(lab=few)).why.startswith("50 epochs instead of 60")


def test_a_difference_that_hangs_on_the_crop_settles_nothing():
    """The papers name no test crop."""
    group = wild({"vgg19": 0.66, "baseline1": 0.72}).wild
    assert BY_ID["L2"].judge(archive(wild=group)).verdict == HOLDS
    worse = simulated("baseline1", 0.65).logits["centre"]
    t = group["baseline1"]
    group["baseline1"] = replace(t, logits=t.logits | {"centre": worse})
    j = BY_ID["L2"].judge(archive(wild=group))
    assert j.verdict == OPEN and "but by the centre crop the difference is -" in j.why
    assert f"centre crop {j.effects[0].centre}" in j.ours and j.effects[0].ours.low > 0


def by_the_other_crop(t: pooling.Tested, accuracy: float) -> pooling.Tested:
    """The arm, with that accuracy by the centre crop."""
    own = simulated(t.results[0].recipe.arm, accuracy, len(t.seeds), len(t.labels))
    return replace(t, logits=t.logits | {"centre": own.logits["centre"]})


@pytest.mark.parametrize("claim", ["L5", "L7", "L9", "M5"])
def test_every_difference_by_ten_crops_is_compared_with_the_centre(claim):
    wild_arms = wild({"vgg19": 0.66, "baseline1": 0.67, "baseline2": 0.67, "lkrnet": 0.72}).wild
    group = {"wild": wild_arms, "lab": wild_arms, "liu": model_a_arms(dict.fromkeys(LEFT_OUT, 0.03))}
    if claim == "L9":  # nothing is gained in the lab
        group["lab"] = {"vgg19": wild_arms["vgg19"], "lkrnet": wild_arms["vgg19"]}
    elif claim == "L7":  # all is gained on fear
        base = wild_arms["vgg19"]
        logits, fear = base.logits["tencrop"].copy(), base.labels == FER_CLASSES.index("fear")
        logits[:, fear] = np.eye(7)[base.labels[fear]]
        group["wild"] = {"vgg19": base, "lkrnet": replace(base, logits=base.logits | {"tencrop": logits})}
    before = BY_ID[claim].judge(archive(**group))
    worse = {"lkrnet": 0.60, "liu-a": 0.45}
    other = {
        name: {a: by_the_other_crop(t, worse[a]) if a in worse else t for a, t in arms.items()}
        for name, arms in group.items()
        if (name, claim) != ("lab", "L9")
    }
    if claim == "L7":
        logits = group["wild"]["vgg19"].logits["centre"].copy()
        logits[:, fear] = np.eye(7)[(base.labels[fear] + 1) % 7]
        lkrnet = group["wild"]["lkrnet"]
        other["wild"]["lkrnet"] = replace(lkrnet, logits=lkrnet.logits | {"centre": logits})
    after = BY_ID[claim].judge(archive(**group | other))
    assert (before.verdict, after.verdict) == (HOLDS, OPEN), (before, after)
    assert any(e.contradicted for e in after.effects) and "but by the centre crop" in after.why
    assert [e.ours for e in after.effects] == [e.ours for e in before.effects]
    assert "test crop" in after.needs


def test_an_embedding_must_beat_k_nn_without_training():
    group = {a: simulated(a, x) for a, x in (("dnnrl", 0.45), ("tdnn", 0.38))}
    for floor, verdict in ((0, HOLDS), (40, OPEN)):
        j = BY_ID["D3"].judge(archive(dnnrl=group, floor=floor))
        assert j.verdict == verdict and ("k-NN without any training 40 %" in j.why) == (floor == 40)


def test_more_seeds_of_controls_are_not_those_of_the_claim():
    group = {a: simulated(a, x, seeds=1) for a, x in (("dnnrl", 0.7), ("tdnn", 0.6))}
    for a in ("dnnrl-joint", "tdnn-joint"):
        group[a] = simulated(a, 0.7)
        group[a].logits["knn"] = group[a].logits["centre"]
    j = BY_ID["D3"].judge(archive(dnnrl=group))
    assert [e.runs for e in j.effects] == [1, 5] and j.test.startswith("paired bootstrap over images")
    assert "1 seed," in j.protocol


def test_controls_are_shown_and_do_not_decide():
    arms = {"tdnn": 0.70, "dnn": 0.66}
    group = {arm: simulated(arm, a) for arm, a in arms.items()}
    better = np.where(np.arange(900)[:, None] < 750, np.eye(7)[group["dnn"].labels], 0)
    group["dnn"].logits["knn"] = np.stack([better] * 5)  # k-NN on DNN's features beats T-DNN
    j = BY_ID["D2"].judge(archive(dnnrl=group))
    assert j.verdict == HOLDS and [e.decides for e in j.effects] == [True, False]
    assert j.effects[1].ours.high < 0 and "DNN, k-NN" in j.ours


def test_the_interaction_is_of_both_parts():
    both = {"vgg19": 0.66, "baseline1": 0.67, "baseline2": 0.67}
    j = BY_ID["L5"].judge(wild(both | {"lkrnet": 0.72}))
    assert j.verdict == HOLDS and j.published == "+1.27"
    assert j.effects[0].ours.value == pytest.approx(4, abs=0.7)
    assert BY_ID["L5"].judge(wild(both | {"lkrnet": 0.65})).verdict == FAILS


def model_a_arms(brings, **how):
    """Arms of model A whose ingredients bring so much each, wherever the others are."""
    every = [some for n in range(4) for some in combinations(LEFT_OUT, n)]
    left = {model_a(*some): 0.7 - sum(brings[x] for x in some) for some in every}
    return {arm: simulated(arm, a, **how) for arm, a in left.items()}


def test_an_ingredient_is_judged_over_the_settings_of_the_others():
    brings = {"center loss": 0.02, "PReLU": 0.06, "augmentation": 0.03}
    group = model_a_arms(brings, n=3000)
    j = BY_ID["M5"].judge(archive(liu=group))
    assert j.verdict == HOLDS and [e.title for e in j.effects] == list(brings)
    for e, gain in zip(j.effects, brings.values(), strict=True):
        assert e.ours.value == pytest.approx(100 * gain, abs=0.5) and e.clean is None
    assert "2 × 2 × 2" in j.test and "5 seeds" in j.protocol
    harmful = model_a_arms(brings | {"PReLU": -0.06}, n=3000)
    assert BY_ID["M5"].judge(archive(liu=harmful)).verdict == FAILS
    del group["liu-a-no-center-relu"]
    j = BY_ID["M5"].judge(archive(liu=group))
    assert j.verdict == NOT_RUN and "A, no center loss, ReLU" in j.needs and "crops alone" not in j.needs


def test_few_seeds_or_one_short_arm_leave_the_ingredients_open():
    brings = dict.fromkeys(LEFT_OUT, 0.06)
    j = BY_ID["M5"].judge(archive(liu=model_a_arms(dict.fromkeys(LEFT_OUT, 0.02), n=3000, seeds=2)))
    assert {e.runs for e in j.effects} == {2} and (j.verdict, j.lacks) == (OPEN, verdicts.FEW)
    assert j.needs == "five seeds"
    group = model_a_arms(brings, n=3000)
    assert BY_ID["M5"].judge(archive(liu=group)).verdict == HOLDS
    name = "liu-a-no-center-relu-no-augmentation"
    group[name] = simulated(name, group[name].hits().mean(), n=3000, epochs=3)
    j = BY_ID["M5"].judge(archive(liu=group))
    assert (j.verdict, j.lacks) == (OPEN, verdicts.SHORT) and "3 epochs instead of 250" in j.why


def test_runs_that_computed_in_different_numbers_say_so():
    a, b = simulated("vgg19", 0.7), simulated("lkrnet", 0.72)
    on_a_gpu = tuple(
        replace(r, info=r.info | {"machine": "NVIDIA H200, bfloat16 autocast"}) for r in b.results
    )
    other = replace(b, results=on_a_gpu)
    e = verdicts.effect("", b.hits(), a.hits(), a.index, runs=5)
    said = [verdicts.conclude([e], [a, x], "").protocol for x in (b, other)]
    assert not said[0].endswith("float32") and said[1] == f"{said[0]}, bfloat16 and float32"


def test_main_effects_count_an_image_once():
    """Four pairs saw the same images: their interval is that of the images, not of four times as many."""
    group = model_a_arms({"center loss": 0.0, "PReLU": 0.05, "augmentation": 0.0}, n=900, seeds=1)
    one = {
        a: replace(t, named={}, logits=group["liu-a-relu" if "relu" in a else "liu-a"].logits)
        for a, t in group.items()
    }
    table, pair = tables.ingredients(one), [t.hits() for t in (one["liu-a"], one["liu-a-relu"])]
    alone = evaluate.clustered_difference(*pair, one["liu-a"].index)
    assert (
        table.loc["PReLU", "difference"] == str(alone)
        and table.loc["augmentation", "difference"] == "0.00 [0.00, 0.00]"
    )
    beside = ["center loss and augmentation", "augmentation", "center loss", "neither of the others"]
    assert dict(table.loc["PReLU"].iloc[3:].dropna()) == {f"beside {b}": str(alone) for b in beside}
    clean = np.arange(900) % 3 > 0
    some = {a: replace(t, clean=clean) for a, t in one.items()}
    own = evaluate.clustered_difference(*[h[:, clean] for h in pair], np.flatnonzero(clean))
    assert tables.ingredients(some).loc["PReLU", "difference, without copies in Training"] == str(own)
    assert BY_ID["M5"].judge(archive(liu=some)).effects[1].clean == own
    assert not len(tables.ingredients({"liu-a": one["liu-a"]}))
    more = one | {
        "liu-a": simulated("liu-a", 0.9, n=900, seeds=3)
    }  # a sweep that was cut off: others have the first seed alone
    assert all(len(h) == 1 for h in pooling.model_a_hits(more).values())
    assert not any(pooling.model_a_hits({a: t for a, t in one.items() if a != gone}) for gone in one)
    row = tables.ingredients(more).loc["PReLU"]
    assert row["with it, %"] > 70 and row["beside center loss and augmentation"] != str(alone)


def test_p_knows_the_seeds_too():
    """Seeds that scatter as widely as they differ: flipping the signs of images alone would be sure."""
    rng = np.random.default_rng(0)
    shift = rng.normal(0, 0.02, (5, 1))
    hits, other = (rng.random((5, 4000)) < 0.6 + x for x in (shift, -shift))
    units = np.arange(4000) // 2
    e = verdicts.effect("", hits, other, units)
    assert (
        e.p
        == max(verdicts.interval_p(e.ours), evaluate.sign_flip(hits, other, units))
        > evaluate.sign_flip(hits, other, units)
    )
    two = verdicts.effect("", hits[:2], other[:2], units)
    assert two.p == max(verdicts.interval_p(two.ours), evaluate.sign_flip(hits[:2], other[:2], units))
    one = verdicts.effect("", hits[:1], other[:1], units)
    assert one.p == evaluate.sign_flip(hits[:1], other[:1], units)


def test_difficult_classes_weigh_a_third_and_easy_ones_a_half():
    group = wild({"vgg19": 0.6, "lkrnet": 0.6}).wild
    base, labels = group["vgg19"], group["vgg19"].labels
    right = np.eye(7, dtype=np.float32)[labels]
    logits = base.logits["tencrop"].copy()
    fear = labels == FER_CLASSES.index("fear")
    logits[:, fear] = right[fear]
    better = replace(base, logits=base.logits | {"tencrop": logits})
    j = BY_ID["L7"].judge(archive(wild={"vgg19": base, "lkrnet": better}))
    gain = 100 - 100 * base.hits()[:, fear].mean()
    assert j.effects[0].ours.value == pytest.approx(gain / 3) and j.verdict == HOLDS
    assert j.published == "+2.33"  # (5 + 2 + 3) / 3 - (0 + 2) / 2 in Table 3


def test_lambda_needs_the_best_accuracy_and_a_trend_of_the_ratio():
    group = wild({"baseline1": 0.68, "lkrnet-lambda0.1": 0.7, "lkrnet": 0.72, "lkrnet-lambda0.4": 0.68})
    for arm, lam in plans.LAMBDAS.items():
        for r in group.wild[arm].results:
            r.info["embedding"] |= {"ratio": 1 + lam, "inter": 2 - lam}
    j = BY_ID["L6"].judge(group)
    assert j.verdict == HOLDS and "1.20 (1.80) at λ = 0.2" in j.ours
    page = page_trend_test(np.tile([1.0, 1.1, 1.2, 1.4], (len(group.wild["lkrnet"].seeds), 1))).pvalue
    assert j.p == pytest.approx(max([page, *(e.p for e in j.effects if e.decides)]))  # all must hold
    for r in group.wild["lkrnet-lambda0.4"].results:
        r.info["embedding"]["ratio"] = 0.5
    assert BY_ID["L6"].judge(group).verdict == OPEN
    for r in group.wild["lkrnet-lambda0.4"].results:
        r.info["embedding"]["ratio"] = NONE  # collapsed
    assert BY_ID["L6"].judge(group).verdict == OPEN
    assert BY_ID["L6"].judge(wild({"lkrnet": 0.72})).verdict == NOT_RUN


def test_the_gain_in_the_wild_and_in_the_lab():
    group = wild({"vgg19": 0.66, "lkrnet": 0.72})
    equal = replace(group, lab={k: replace(t, subject=np.arange(900) // 9) for k, t in group.wild.items()})
    j = BY_ID["L9"].judge(equal)
    assert j.verdict == OPEN and j.effects[0].ours.value == 0 and "gain of 5.8 on CK+" in j.why
    none = replace(equal, lab={"vgg19": equal.lab["vgg19"], "lkrnet": equal.lab["vgg19"]})
    assert BY_ID["L9"].judge(none).verdict == HOLDS


def test_networks_that_learnt_nothing_or_lost_it_settle_nothing():
    """AlexNet on its first plateau would let any other network win."""
    rng = np.random.default_rng(0)
    group = {"dnn": simulated("dnn", 0.7), "alexnet": simulated("alexnet", 0.6)}
    assert BY_ID["D1"].judge(archive(dnnrl=group)).verdict == HOLDS
    labels = np.where(rng.random(900) < 0.4, 3, group["alexnet"].labels)
    idle = replace(group["alexnet"], labels=labels, logits={"centre": np.tile(np.eye(7)[3], (5, 900, 1))})
    group["dnn"] = replace(group["dnn"], labels=labels)
    j = BY_ID["D1"].judge(archive(dnnrl=group | {"alexnet": idle}))
    assert j.verdict == OPEN and "AlexNet has 4" in j.why and "the largest class 4" in j.why
    group = kim({("kim", "random"): 0.95, ("kim-softmax", "random"): 0.85})
    assert BY_ID["K2"].judge(group).verdict == HOLDS
    list(group.kim["random"].values())[2].history["train_accuracy"][-1] = 30.0
    j = BY_ID["K2"].judge(group)
    assert j.verdict == OPEN and "1 run of 10 lost what it had learnt" in j.why


def test_seeds_on_one_split_are_no_further_splits():
    """Five times the same ten splits tell as much of other splits as ten do."""
    group = kim({("kim", "random"): 0.95, ("kim-softmax", "random"): 0.93})
    more = {replace(run, seed=s): r for run, r in group.kim["random"].items() for s in range(5)}
    once, five = (BY_ID["K2"].judge(g) for g in (group, replace(group, kim=group.kim | {"random": more})))
    assert five.effects[0].runs == once.effects[0].runs == 10
    assert five.effects[0].ours.low == pytest.approx(once.effects[0].ours.low)


@pytest.mark.parametrize(
    "first, second",
    [({0, 1, 2, 4, 5, 6, 7, 8, 9}, {0, 1, 2, 3, 4, 5, 6, 7, 9}), (set(range(10)), {0, 1})],
    ids=["other folds", "unfinished"],
)
def test_seeds_with_other_folds_are_not_pooled(first, second):
    """A second seed that lacks folds neither breaks the table nor is scored against the first one's images."""
    runs = kim({("kim", "random"): 1.0}).kim["random"]
    both = {run: r for run, r in runs.items() if run.fold in first}
    both |= {replace(run, seed=1): r for run, r in runs.items() if run.fold in second}
    tested = pooling.by_arm(both, partial=True)["kim"]
    assert tested.seeds == (0,) and set(tested.folds) == first and tested.hits("centre").all()


def test_a_fold_that_one_seed_lost_leaves_the_others_with_all_their_seeds():
    group = kim({("kim", "subject"): 0.8, ("kim-no-occlusion", "subject"): 0.7}, folds=5)
    runs = dict(group.kim["subject"])
    for run, r in group.kim["subject"].items():
        p, arm = r.predictions, run.recipe.arm
        hits = p["test_logits_centre"].argmax(1) == p["test_labels"]
        again = result(
            arm, hits, p["test_labels"], p["test_subject"], "ckplus", "subject", seed=1, fold=run.fold
        )
        runs[replace(run, seed=1)] = again
        if run.fold == 2 and arm == "kim":
            again.history["train_accuracy"] = np.array([50.0, 99.0, 60.0])
    j = BY_ID["K4"].judge(replace(group, kim=group.kim | {"subject": runs}))
    assert "without 1 fold on which" in j.why and "4 folds of new people, n = 724, 2 seeds" in j.protocol
    assert j.effects[0].runs == 8
    table = kim_tables.occlusion(runs)
    assert set(table["splits"]) == {5, 4} and "new people, without 1 that fell back" in table.index
    other = kim_tables.table2(runs, None).loc[papers.TITLES["kim"], "new people"]
    t = pooling.same_folds(runs, "kim")["kim"]  # both seeds are drawn, as they are elsewhere
    assert t.seeds == (0, 1) and other == pooling.mean_accuracy(t.hits("centre"), t.subject)


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_pair_of_ensembles_is_one_pair_of_runs(seeds):
    group = {a: simulated(a, 0.6, seeds=seeds) for a in ("liu-a", "liu-b", "liu-vgg16", "liu-vgg19")}
    group["liu-ensemble"] = replace(group["liu-b"], results=group["liu-a"].results + group["liu-b"].results)
    j = BY_ID["M3"].judge(archive(liu=group, liu_valid=group))
    assert [e.runs for e in j.effects] == [seeds, seeds]


def test_model_b_without_imagenets_weights_settles_nothing():
    group = {a: simulated(a, x, n=400) for a, x in (("liu-a", 0.7), ("liu-b", 0.71), ("liu-vgg16", 0.6))}
    group |= {"liu-vgg19": simulated("liu-vgg19", 0.6, n=400)}
    both = replace(group["liu-b"], results=group["liu-a"].results + group["liu-b"].results)
    group["liu-ensemble"] = both
    found = archive(liu=group, liu_valid=group)
    for r in group["liu-b"].results:
        assert r.info["recipe"]["weights"].startswith("ResNet50")  # as the profile has it
        r.info["recipe"]["weights"] = "none"
    for id in ("M1", "M3", "M6"):
        j = BY_ID[id].judge(found)
        assert j.verdict == OPEN and "random weights" in j.why and "ImageNet" in j.needs
    for r in group["liu-b"].results:
        r.info["recipe"]["weights"] = "ResNet50_Weights.IMAGENET1K_V1"
    assert BY_ID["M3"].judge(found).verdict == HOLDS
    assert BY_ID["M3"].judge(found).published == "+7.24; +5.47"
    assert BY_ID["M6"].judge(found).verdict == FAILS  # no image is ever taken for another class but the next


# --- levels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "accuracy, seeds, how, verdict",
    [
        (0.6915, 5, {}, HOLDS),
        (0.726, 5, {}, FAILS),
        (0.6915, 4, {}, OPEN),
        (0.6915, 5, {"epochs": 5}, OPEN),
    ],
)
def test_vgg19s_level(accuracy, seeds, how, verdict):
    t = simulated("vgg19", accuracy, seeds=seeds, n=50_000, **how)
    j = BY_ID["L1"].judge(archive(literal={"vgg19": t}))
    assert j.verdict == verdict and j.published == "69.15 implied" and "centre crop" in j.ours
    ours = BY_ID["L1"].judge(archive(wild={"vgg19": t}))  # a level belongs to a recipe
    assert ours.verdict == OPEN and "this is ours" in ours.why and np.isnan(ours.p)
    lacks = verdicts.SHORT if "epochs" in how else verdicts.ANOTHER
    assert ours.needs == "PROFILE=paper: VGG19 by the printed recipe" and ours.lacks == lacks


def test_vgg19s_level_is_that_of_the_printed_recipe_where_it_was_run():
    """A better recipe of ours does not refute the paper's number."""
    better = wild({"vgg19": 0.73}, n=50_000)
    literal = {"vgg19": simulated("vgg19", 0.6915, n=50_000)}
    j = BY_ID["L1"].judge(replace(better, literal=literal))
    assert j.verdict == HOLDS and "by the printed recipe; by our recipe 72.98" in j.ours
    assert BY_ID["L1"].judge(archive(literal={"vgg19": better.wild["vgg19"]})).verdict == FAILS


def test_differences_are_given_without_copies_too():
    group = {a: simulated(a, x) for a, x in (("vgg19", 0.66), ("baseline1", 0.70))}
    clean = np.arange(900) % 3 > 0
    group = {a: replace(t, clean=clean) for a, t in group.items()}
    j = BY_ID["L2"].judge(archive(wild=group))
    (e,) = j.effects
    own = {a: t.hits()[:, clean].mean() for a, t in group.items()}
    assert e.clean.value == pytest.approx(100 * (own["baseline1"] - own["vgg19"]))
    assert f"without copies in Training {e.clean}" in j.ours


def test_one_pair_of_runs_must_differ_by_more_than_luck():
    hits = np.arange(3589)[None] % 100
    for gain, verdict in ((2, OPEN), (4, HOLDS)):
        e = verdicts.effect("", hits < 70 + gain, hits < 70, np.arange(3589))
        assert (
            e.verdict == verdict
            and e.resolvable < 1
            and ("so few runs must differ by" in e.why) == (verdict == OPEN)
        )


def test_within_bounds():
    assert verdicts.within(Estimate(0, -0.9, 0.9), -1, 1) == HOLDS
    assert verdicts.within(Estimate(0, -0.9, 1.1), -1, 1) == OPEN
    assert verdicts.within(Estimate(3, 1.1, 5), -1, 1) == FAILS
    assert verdicts.within(Estimate(0, NONE, NONE), -1, 1) == OPEN


# --- Kim et al. -----------------------------------------------------------------------------------


def kim(accuracy: dict[tuple[str, str], float], folds: int = 10, n: int = 181) -> Archive:
    """Runs of arms under protocols; each split has images of its own."""
    found = {p: {} for p in plans.KIM_PROTOCOLS}
    for fold in range(folds):
        rng = np.random.default_rng(fold)
        ease, labels = rng.permutation(n) / n, rng.integers(0, 7, n)
        subject = np.array([f"S{i}" for i in rng.integers(0, 60, n)])
        for (arm, protocol), a in accuracy.items():
            run = Run(whole(arm, protocol), "ckplus", protocol, fold, 10)
            hits = ease < a + 0.004 * ((fold + len(arm)) % 3)  # splits and arms scatter
            found[protocol][run] = result(arm, hits, labels, subject, "ckplus", protocol, fold=fold)
    return archive(kim=found)


def test_random_splits():
    r18, soft, full = (("kim-resnet18", "random"), ("kim-softmax", "random"), ("kim", "random"))
    group = kim({r18: 0.90, soft: 0.95, full: 0.951})
    k3, k2 = BY_ID["K3"].judge(group), BY_ID["K2"].judge(group)
    assert k3.verdict == HOLDS and k3.published == "+2.09; +2.57" and "corrected" in k3.test
    assert k2.verdict == OPEN and k2.published == "+0.48"
    assert "0.87 of 181 frames" in k2.why and "needs 6 " in k2.why
    assert BY_ID["K1"].judge(group).verdict == FAILS
    assert BY_ID["K1"].judge(kim({full: 0.992})).verdict == HOLDS
    perfect = BY_ID["K1"].judge(kim({full: 1.1}, folds=5))
    assert (
        perfect.verdict == HOLDS and perfect.ours.startswith("100.00 [99.") and "402 frames" in perfect.test
    )
    alike = kim({full: 0.992}, folds=5)
    for r in alike.kim["random"].values():
        r.info["metrics"]["test_centre"] = 100 * 180 / 181  # the printed value, in every split
    alike = BY_ID["K1"].judge(alike)
    assert alike.verdict == OPEN and alike.ours.startswith("99.45 [98.") and "402 frames" in alike.test
    few = kim({full: 0.992}, folds=2)
    for r in few.kim["random"].values():
        r.info["metrics"]["test_centre"] = 99.44  # twice the same: no scatter, and no proof
    assert BY_ID["K1"].judge(few).verdict == OPEN
    assert BY_ID["K4"].judge(group).verdict == NOT_RUN


def test_the_same_difference_in_every_split_is_not_certain():
    """One frame of 181, five times: by chance, and far from a difference without error."""
    group = kim({("kim-softmax", "random"): 0.95, ("kim", "random"): 0.951}, folds=5)
    for run, r in group.kim["random"].items():
        r.info["metrics"]["test_centre"] = 100 * (179 + (run.recipe.arm == "kim")) / 181
    j = BY_ID["K2"].judge(group)
    assert j.verdict == OPEN and "no scatter" in j.why and np.isnan(j.p)


def test_arms_with_different_splits_are_compared_on_those_that_both_have():
    pair = {("kim-softmax", "random"): 0.95, ("kim", "random"): 0.951}
    group = kim(pair)
    for run in [r for r in group.kim["random"] if r.fold > 5 and r.recipe.name.endswith("softmax")]:
        del group.kim["random"][run]
    assert BY_ID["K2"].judge(group).effects[0].runs == 6
    assert "10 splits of random frames" in BY_ID["K1"].judge(group).protocol


def test_random_frames_and_unseen_people():
    j = BY_ID["K5"].judge(kim({("kim", "random"): 0.99, ("kim", "subject"): 0.80}))
    assert j.verdict == FAILS and j.effects[0].ours.low > 10
    same = kim({("kim", "random"): 0.992, ("kim", "subject"): 0.992}, n=900)
    assert BY_ID["K5"].judge(same).verdict == HOLDS
    apart = kim({("kim", "random"): 0.99, ("kim", "subject"): 0.80})
    for run, r in apart.kim["subject"].items():  # folds differ more than people do
        r.info["metrics"]["test_centre"] += 30 * (-1) ** run.fold
    assert BY_ID["K5"].judge(apart).verdict == OPEN
    # Two points more than none are not two points more than the one that would be the same.
    near = BY_ID["K5"].judge(kim({("kim", "random"): 0.99, ("kim", "subject"): 0.96}, n=900)).effects[0]
    assert near.p > 3 * verdicts.interval_p(near.ours)
    assert BY_ID["K5"].judge(kim({("kim", "random"): 0.99})).verdict == NOT_RUN


def test_arms_without_a_common_seed_are_not_compared():
    """Two arms, of which a sweep that was cut off made other seeds; the rest of the table is judged."""
    group = {a: simulated(a, 0.7, seeds=1) for a in plans.FACTORIAL}
    group["lkrnet"] = replace(group["lkrnet"], seeds=(1,))
    assert pooling.lacking(group, "lkrnet", "vgg19") == ["lkrnet", "vgg19"]
    assert pooling.lacking(group, "baseline1", "vgg19") == []
    assert pooling.interaction(group) is None
    with pytest.raises(DataError, match="no seed in common"):
        pooling.paired(group["lkrnet"], group["vgg19"])
    shown = tables.differences(group, pairs=(("lkrnet", "vgg19"), ("baseline1", "vgg19")))["ours"]
    assert shown.iloc[0] == tables.NOT_RUN and "[" in shown.iloc[1]
    found = archive(wild=group, longer=group, lab=group)
    for id in ("L4", "L5", "L7", "L9", "L13"):
        j = BY_ID[id].judge(found)
        assert j.verdict == NOT_RUN and "no seed in common to" in j.why, id
    assert BY_ID["L2"].judge(found).verdict == OPEN
    only_wild = archive(wild={a: simulated(a, 0.7) for a in ("lkrnet", "vgg19")})
    assert BY_ID["L9"].judge(only_wild).why.startswith("no run of LKRNet; VGG19")


def test_lambdas_without_a_seed_in_common_have_no_trend():
    """The accuracies are compared pair by pair, for which two seeds in common do."""
    group = {a: simulated(a, 0.7, seeds=1) for a in ("baseline1", "lkrnet", "lkrnet-lambda0.4")}
    group["lkrnet-lambda0.1"] = replace(group["lkrnet"], seeds=(1,))
    j = BY_ID["L6"].judge(archive(wild=group))
    assert j.verdict == OPEN and "no seed in common to all λ" in j.why


def test_the_printed_recipe_decides_where_it_was_run():
    """The shortened runs would say otherwise; comparisons with arms that it was not run for stay with them."""
    full, people, softmax = ("kim", "random"), ("kim", "subject"), ("kim-softmax", "random")
    group = replace(
        kim({full: 0.93, people: 0.93, softmax: 0.95}), kim_printed=kim({full: 0.992, people: 0.80}).kim
    )
    assert BY_ID["K1"].judge(group).verdict == HOLDS and BY_ID["K5"].judge(group).verdict == FAILS
    assert BY_ID["K2"].judge(group).effects[0].ours.value == pytest.approx(-2, abs=0.5)
    both = replace(group, kim_printed=kim({full: 0.992, softmax: 0.90}).kim)
    assert BY_ID["K2"].judge(both).effects[0].ours.value == pytest.approx(9, abs=0.8)


def test_robustness_is_an_interaction():
    group = kim({("kim", "subject"): 0.8, ("kim-no-occlusion", "subject"): 0.8})
    assert BY_ID["K4"].judge(group).effects[0].ours.value == 0
    for run, r in group.kim["subject"].items():
        if run.recipe.name.endswith("no-occlusion"):  # covered faces are always wrong
            r.predictions["test_logits_occluded"] = np.eye(7)[(r.predictions["test_labels"] + 1) % 7]
            r.info["metrics"]["test_occluded"] = 0.0
    j = BY_ID["K4"].judge(group)
    assert j.verdict == HOLDS and j.effects[0].ours.value == pytest.approx(80, abs=1.5)
    gains = {e.title: e.ours.value for e in j.effects[1:]}
    assert gains["gain on occluded faces"] - gains["gain on clean faces"] == pytest.approx(
        j.effects[0].ours.value
    )


def test_folds_that_differ_more_than_their_people_widen_robustness():
    """In one fold of five the gain is twice as large: whose networks make it, people cannot tell."""
    arms = {("kim", "subject"): 0.8, ("kim-no-occlusion", "subject"): 0.8}
    group, widths = kim(arms, folds=5), []
    for fallen in (0, 1):
        for run, r in group.kim["subject"].items():
            if run.recipe.name.endswith("no-occlusion"):
                wrong = np.arange(181) % 10 < (10 if run.fold < fallen else 5)
                labels = r.predictions["test_labels"]
                logits = np.eye(7)[np.where(wrong, (labels + 1) % 7, labels)]
                r.predictions["test_logits_occluded"] = logits
                r.info["metrics"]["test_occluded"] = 100 * float(1 - wrong.mean())
        e = BY_ID["K4"].judge(group).effects[0].ours
        widths.append(e.high - e.low)
    assert widths[1] > 2 * widths[0]


# --- arithmetic -----------------------------------------------------------------------------------


def test_robustness_without_a_fold_on_which_a_network_broke_down():
    """The broken one makes a difference of its own; alone it settles nothing."""
    group = kim({("kim", "subject"): 0.8, ("kim-no-occlusion", "subject"): 0.8}, folds=3)
    broken = next(r for run, r in group.kim["subject"].items() if run.recipe.arm != "kim" and run.fold == 0)
    broken.history["train_accuracy"] = np.array([50.0, 99.0, 90.0])
    broken.predictions["test_logits_occluded"] = np.eye(7)[(broken.predictions["test_labels"] + 1) % 7]
    j = BY_ID["K4"].judge(group)
    assert j.effects[0].ours.value == 0 and j.effects[0].runs == 2
    assert "without 1 fold on which a network lost what it had learnt" in j.why
    alone = {r: x for r, x in group.kim["subject"].items() if r.fold == 0}
    j = BY_ID["K4"].judge(replace(group, kim=group.kim | {"subject": alone}))
    assert j.verdict == OPEN and "1 run of 1 lost what it had learnt" in j.why


def test_what_more_runs_can_show():
    """Of a variance of which overlapping splits keep half, no number of them takes away more than the other half."""
    e = verdicts.Effect("", 1.0, evaluate.Estimate(0.5, -0.5, 1.5), 0.3, 5)
    assert e.resolvable == pytest.approx(1.43, abs=0.01) and e.times == pytest.approx(2.04, abs=0.01)
    assert replace(e, kept=0.25).times == pytest.approx(0.75 / (1 / 2.04 - 0.25), abs=0.02)
    assert replace(e, kept=0.5).times == np.inf and np.isnan(replace(e, published=np.nan).times)
    j = verdicts.conclude([replace(e, kept=0.5)], [simulated("vgg19", 0.7)], "")
    assert "splits of these overlap too much" in j.needs
    j = verdicts.conclude([replace(e, runs=2)], [simulated("vgg19", 0.7)], "")
    assert (
        j.needs == "five seeds, and 2.0 times as many images or runs, to detect an effect of the printed size"
    )


def test_few_runs_and_a_quantity_of_unknown_luck():
    e = verdicts.Effect("heat", np.nan, evaluate.Estimate(50, 40, 60), 1e-9, 4, luck=verdicts.NONE)
    assert e.verdict == OPEN and "so few runs cannot tell" in e.why
    assert replace(e, runs=5).verdict == HOLDS


def test_a_level_has_a_p_too():
    mean = evaluate.mean_interval(np.array([99.0, 99.5, 99.2, 99.6, 99.3]))
    assert claims.within_p(mean, mean.low, 100.0, 5) == pytest.approx(
        0.05
    )  # its interval just reaches the bound
    assert claims.within_p(mean, 90.0, 99.9, 5) == claims.within_p(
        mean, mean.value - (99.9 - mean.value), 100.0, 5
    )
    j = BY_ID["K1"].judge(kim({("kim", "random"): 0.994}, n=900))
    assert j.verdict == HOLDS and 0 < j.p < 0.05


def test_disgust_in_table_3(monkeypatch):
    j = BY_ID["L8"].judge(None)
    assert j.verdict == FAILS and "+6 over Hua" in j.ours and "+0 over" in j.ours  # 75, 69, 75
    other = arithmetic.published_recalls("Table 3", FER_CLASSES)
    other["VGG19"][1] = 60
    monkeypatch.setattr(arithmetic, "published_recalls", lambda *_: other)
    assert BY_ID["L8"].judge(None).verdict == HOLDS


def test_gradients_of_dnnrls_loss():
    at = (-1, -0.1, 0.1, 1, 3)
    slopes = arithmetic.exponential_slopes(at).xs("slope", axis=1, level=1).abs()
    assert slopes["sign of Eqs. 2–4"].tolist() == pytest.approx([0, 0, 0.196, 0.164, 0.110], abs=5e-4)
    assert slopes["no clamp"].to_numpy() == pytest.approx(0.2 * np.exp(-0.2 * np.array(at)))
    j = BY_ID["D4"].judge(None)
    assert j.verdict == FAILS and "D = -1, -0.1" in j.why and "0.196 at 0.1" in j.ours


def test_the_champion(monkeypatch):
    j = BY_ID["D5"].judge(None)
    assert (j.verdict, j.ours, j.published) == (FAILS, "70.60 − 71.161 = -0.56", "70.60 > 69.3")
    assert "71.161 on PrivateTest and 69.768" in j.why
    better = {"DNNRL": 71.2, "FERwin [16] (Tang)": 69.3}
    monkeypatch.setattr(arithmetic, "published_accuracies", lambda *_: better)
    assert BY_ID["D5"].judge(None).verdict == HOLDS


def test_parameters_of_a_and_of_a_and_b():
    j = BY_ID["M2"].judge(None)
    assert j.verdict == FAILS and "25,260,494" in j.ours and "172 % vs VGG16" in j.ours
    assert "Of VGG16 with them (138,357,544) A + B are 18 %" in j.ours
    assert j.published == "18.5 % vs VGG16, 13.6 % vs VGG19" and "18.5 and 13.6 %" in j.why


def test_lambda_0_and_a_mask_of_one_number():
    assert BY_ID["L11"].judge(None).verdict == HOLDS
    j = BY_ID["L12"].judge(archive())
    assert j.verdict == NOT_RUN and "moving the regions changes nothing" in j.why


# --- all of them ----------------------------------------------------------------------------------


def test_holms_correction_within_a_paper():
    def judged(id, p, verdict=HOLDS):
        return Judgement(verdict, "", test="t", p=p, claim=Claim(id, "", None))

    done = verdicts.holm([judged("L1", 0.04), judged("L2", 0.01), judged("L3", 0.03), judged("K1", 0.04)])
    assert [j.test.rsplit(" ", 1)[1] for j in done] == ["0.06", "0.03", "0.06", "0.04"]
    assert [j.verdict for j in done] == [OPEN, HOLDS, OPEN, HOLDS]
    assert verdicts.holm([judged("L1", NONE)])[0].verdict == HOLDS


def test_independent_differences_and_their_p():
    e = verdicts.minus(Estimate(3, 2, 4), Estimate(1, 1 - 0.75, 1.75))
    assert (e.value, e.low, e.high) == pytest.approx((2, 0.75, 3.25))
    assert verdicts.interval_p(Estimate(1.96, 0, 3.92)) == pytest.approx(0.05, abs=1e-3)
    assert verdicts.interval_p(Estimate(0, 0, 0)) == 1
    t = evaluate.mean_interval(np.array([1.0, 2.0, 4.0, 3.0]))
    assert verdicts.interval_p(t, 3) == pytest.approx(ttest_1samp([1, 2, 4, 3], 0).pvalue)
    assert np.isnan(verdicts.interval_p(Estimate(3, np.nan, np.nan)))


@pytest.mark.parametrize("profile", ["demo", "paper-cpu"])
def test_without_runs_only_arithmetic_has_a_verdict(monkeypatch, profile):
    monkeypatch.setattr(untrained, "nearest_pixels", lambda *_: None)
    judgements = claims.judge_all(plans.profile(profile))
    ids = [f"{letter}{k}" for letter, n in zip("LDMK", (13, 6, 6, 5), strict=True) for k in range(1, n + 1)]
    assert [j.claim.id for j in judgements] == ids
    verdict = {j.claim.id: j.verdict for j in judgements}
    arithmetic = {k for k, v in verdict.items() if v in (HOLDS, FAILS)}
    assert arithmetic == {"L8", "L11", "D4", "D5", "M2"} and verdict["D6"] == UNTESTABLE
    assert {verdict[i] for i in set(ids) - arithmetic - {"D6"}} == {NOT_RUN}
    assert all(j.why and (j.needs or j.claim.id in arithmetic) for j in judgements)
    table = claims.table(judgements)
    assert list(table.index) == ids and set(table["verdict"]) <= set(verdicts.VERDICTS)
    assert set(table["paper"]) == {"LKRNet", "DNNRL", "Liu et al.", "Kim et al."}


def test_in_the_lab_people_are_drawn_and_their_signs_flipped():
    people = np.arange(900) // 90
    group = {a: replace(t, subject=people) for a, t in wild({"vgg19": 0.66, "lkrnet": 0.72}).wild.items()}
    hits = [group[a].hits() for a in ("lkrnet", "vgg19")]
    lab, in_the_wild = (
        claims.compare(g, group, ("lkrnet", ""), ("vgg19", ""), NONE, True) for g in ("lab", "wild")
    )
    assert lab.ours == evaluate.clustered_difference(*hits, people)
    assert lab.p == evaluate.sign_flip(*hits, people)
    assert in_the_wild.ours == evaluate.clustered_difference(*hits) != lab.ours


def test_lopsided_intervals_are_put_together_end_by_end():
    e = verdicts.minus(Estimate(90, 87, 92), Estimate(80, 76, 81))
    assert (e.low, e.high) == pytest.approx((10 - np.hypot(3, 1), 10 + np.hypot(2, 4)))


def test_one_of_several_differences_that_fails_pays_for_the_others():
    lost = Effect("", NONE, Estimate(-2, -3, -1), 0.01, 5)
    won = replace(lost, ours=Estimate(2, 1, 3), p=0.001)
    j = verdicts.conclude([lost, won], [simulated("vgg19", 0.7)], "")
    assert j.verdict == FAILS and j.p == pytest.approx(0.02)


def test_one_pair_of_runs_has_mcnemars_exact_p():
    hits, other = np.ones((1, 100), bool), np.arange(100)[None] >= 6
    assert verdicts.effect("", hits, other, np.arange(100)).p == pytest.approx(2 / 2**6)


def test_seeds_that_agree_are_no_more_images_for_p():
    """Four images that one arm alone gets right, with all five seeds: McNemar's p of one pair is 0.125."""
    hits = np.zeros((5, 181), bool)
    hits[:, :4] = True
    e = verdicts.effect("", hits, np.zeros_like(hits), np.arange(181), runs=5)
    assert e.p == pytest.approx(2 / 2**4, abs=0.01)


def test_heat_in_regions_is_lkrnets_minus_vgg19s_seed_by_seed(monkeypatch):
    def summary(result, *_):
        seed, n = result.info["seed"], 900
        mass = np.random.default_rng(seed).random(n) + (result.recipe.arm == "lkrnet") * (0.10 + 0.01 * seed)
        return SimpleNamespace(mass=mass)

    monkeypatch.setattr(explain, "cam_summary", summary)
    (e,) = BY_ID["L13"].judge(wild({"vgg19": 0.69, "lkrnet": 0.72})).effects
    expected = evaluate.mean_interval(np.array([10.0, 11, 12, 13, 14]))
    assert (e.ours.value, e.ours.low, e.ours.high) == pytest.approx(
        (expected.value, expected.low, expected.high)
    )
    assert e.verdict == HOLDS and e.runs == 5


def pair_of_liu(valid: dict, test: dict):
    """Archive in which A and B have these accuracies on PublicTest and PrivateTest; A + B is B."""
    both = {}
    for name, accuracy in (("liu_valid", valid), ("liu", test)):
        group = {a: simulated(a, x) for a, x in accuracy.items()}
        both[name] = group | {"liu-ensemble": group["liu-b"]}
    return archive(**both)


def test_the_better_of_a_and_b_is_chosen_on_public_test():
    found = pair_of_liu({"liu-a": 0.6, "liu-b": 0.7}, {"liu-a": 0.7, "liu-b": 0.6})
    assert "A + B − Model B" in BY_ID["M1"].judge(found).ours


@pytest.mark.parametrize("accuracy", [0.671, 0.712])
def test_a_level_may_be_a_point_off_and_no_more(accuracy):
    literal = {"vgg19": simulated("vgg19", accuracy, n=50_000)}
    assert BY_ID["L1"].judge(archive(literal=literal)).verdict == FAILS


def test_a_level_of_splits_may_be_a_point_off_and_no_more():
    group = kim({("kim", "random"): 0.975}, n=900)
    assert BY_ID["K1"].judge(group).verdict == FAILS


def test_intervals_of_splits_are_corrected_for_their_overlap():
    group = kim({("kim-softmax", "random"): 0.95, ("kim", "random"): 0.96})
    arms = claims.kim_arms(group, "random", "kim", "kim-softmax")
    each = [pooling.split_accuracies(arms[a]) for a in ("kim", "kim-softmax")]
    known = evaluate.corrected_t(each[0] - each[1], 724, 181)
    (e,) = BY_ID["K2"].judge(group).effects
    assert (e.ours, e.p) == (known.difference, known.p)
    mean = evaluate.corrected_t(each[0], 724, 181).difference
    assert BY_ID["K1"].judge(group).ours == str(replace(mean, high=min(mean.high, 100.0)))


def test_how_often_nearest_pixels_reach_the_printed_level():
    null = pd.DataFrame(
        {"protocol": ["random"] * 4 + ["subject"], "accuracy": [99.44, 99.0, 98.0, 97.0, 100.0]}
    )
    why = BY_ID["K1"].judge(archive(null=null)).why
    assert "have 98.36 and reach 99.44 in 25 % of the splits" in why


def spoken(valid, test, seeds=5):
    """M6 for networks with these confusions [true, taken] in per cent on the two splits."""
    groups = {}
    for name, rates in (("liu_valid", valid), ("liu", test)):
        t = simulated("liu-a", 0.7, n=7000, seeds=seeds)
        labels = np.arange(7000) % 7
        taken = labels.copy()
        for true, share in rates.items():
            rows = np.flatnonzero(labels == true)
            start = 0
            for other, per_cent in share.items():
                taken[rows[start : (start := start + 10 * per_cent)]] = other
        logits = dict.fromkeys(("tencrop", "centre"), np.stack([np.eye(7)[taken]] * seeds))
        groups[name] = {"liu-ensemble": replace(t, index=np.arange(7000), labels=labels, logits=logits)}
    return groups


PRINTED = {
    3: {0: 9},
    5: {0: 17},
    2: {4: 18, 0: 10, 1: 16},
}  # happiness 91, surprise 83, fear 56, as sad 18, anger 10


@pytest.mark.parametrize(
    "valid, test, verdict",
    [
        (PRINTED, {}, HOLDS),  # one split of the two is enough
        (PRINTED | {3: {0: 14}}, {}, OPEN),  # happiness lies on the bound
        (PRINTED | {3: {0: 30}}, {}, FAILS),
    ],
)
def test_spoken_recalls_hold_where_all_hold_on_one_split(valid, test, verdict):
    j = BY_ID["M6"].judge(archive(**spoken(valid, test)))
    assert j.verdict == verdict, j
    one = BY_ID["M6"].judge(archive(**spoken(valid, test, seeds=1)))
    assert (one.verdict, one.lacks, one.needs) == (OPEN, verdicts.FEW, "five seeds")


def test_differences_of_differences_have_twice_the_luck():
    group = wild({"vgg19": 0.66, "baseline1": 0.67, "baseline2": 0.67, "lkrnet": 0.72})
    for id, found in (("L5", group), ("L9", replace(group, lab=group.wild))):
        assert BY_ID[id].judge(found).effects[0].luck == 4
