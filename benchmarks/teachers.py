"""What is a teacher worth where few cases have labels? Students with and without one, on phantoms and on LIDC-IDRI's slices.

    python benchmarks/teachers.py OUT --data FOLDER [--sets phantoms,lidc] [--seeds 0,1,2,3,4]

FOLDER holds `lidc2d.npz` (benchmarks/lidc_arrays.py says what is in it). A run is one set, arm and seed. Its weights and a CSV with a
row for each test case are written to OUT when it is done, and a run that is there is not repeated: an interrupted study goes on. A run
of other settings or of other images is refused. The tables of docs/few_labels.md are `few_labels.md`, the means of each run are
`few_labels_runs.csv`. docs/few_labels.md says what is fixed beforehand, and why.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import (
    Compose,
    RandAdjustContrast,
    RandGaussianNoise,
    RandScaleIntensity,
    RandShiftIntensity,
)
from torch import nn
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.lidc_arrays import RatedArray, lidc_slices, parts_of
from benchmarks.rater_training import RATE, train
from benchmarks.real_raters import (
    StudySet,
    calibration_bins,
    described,
    digest_of_images,
    digest_of_loss,
    majority_dice,
    probabilities,
    rater_scores,
    run_name,
    training_batches,
    votes_of,
    write_rows,
)
from benchmarks.real_raters_results import SCORES, Runs, estimate, markdown, runs_of
from monai_jdt.data import qubiq_phantom, split_cases
from monai_jdt.data.files.atomic import whole_file
from monai_jdt.handlers import ConsistencyRampUp
from monai_jdt.losses import DistillationLoss, JDTCELoss
from monai_jdt.teachers import MeanTeacher, SemiSupervisedLoss, TeacherPrepareBatch, TeacherStudentLoss, load_teachers
from monai_jdt.validation import error_sentence

SEEDS = (0, 1, 2, 3, 4)
#: The share of the training patients whose labels are used. The seed draws them.
LABELLED = 0.1
#: Of the moving average; confidence and weight of what is learnt from it. The defaults of the bundles' `mean_teacher.yaml`.
DECAY, CONFIDENCE, CONSISTENCY = 0.99, 0.8, 0.1
#: Phantoms, of which the same hash that divides patients makes three parts.
PHANTOMS = 400
#: Scores of the tables, as benchmarks/real_raters_results.py has them. The first decides.
SHOWN = ("thresholded_dice", "dice_half", "brier", "ece", "pooled_ece", "bias")


@dataclass(frozen=True)
class Arm:
    """How a network learns.

    Args:
        teacher: "mean": the moving average of the student; "large": a larger network, trained on the same labels; "": none.
        unlabelled: as many images without a label are in each batch.
        averaged: the moving average of the network's weights is scored, not the network.
        large: the network is the larger one.
        all_labels: the labels of all training patients are used.
    """

    teacher: str = ""
    unlabelled: bool = False
    averaged: bool = False
    large: bool = False
    all_labels: bool = False


#: The first is what the others are compared with. The large network comes before those that learn from it.
ARMS = {
    "labels alone": Arm(),
    "labels alone, averaged": Arm(averaged=True),
    "mean teacher": Arm(teacher="mean", unlabelled=True, averaged=True),
    "large network, labels alone": Arm(large=True),
    "distilled": Arm(teacher="large"),
    "distilled, all images": Arm(teacher="large", unlabelled=True),
    "all labels": Arm(all_labels=True),
}
LARGE = "large network, labels alone"


def phantom_slices(count: int = PHANTOMS) -> list[RatedArray]:
    """Return phantoms of a kidney with three readers, each case another patient, with grey values from 0 to 255."""
    cases = []
    for index in tqdm(range(count), desc="phantoms", disable=None):
        made = qubiq_phantom(index, "kidney")
        low, high = np.percentile(made.image, [0.5, 99.5])
        image = (255 * np.clip((made.image - low) / (high - low), 0, 1)).astype(np.uint8)
        name = f"phantom-{index:04d}"
        cases.append(RatedArray(name, name, image, np.stack([marked[0] for marked in made.raters.values()])))
    return cases


_lidc = StudySet(
    read=lambda folder: lidc_slices(folder / "lidc2d.npz", step=4),
    crop=(64, 64),
    channels=(8, 16, 32, 64),
    strides=((2, 2), (2, 2), (2, 2)),
    # batch norm would make another network of a batch that has images without labels, too
    norm="instance",
    steps=400,
    batch=8,
    unit="pixels",
)
SETS = {"phantoms": replace(_lidc, read=lambda _: phantom_slices()), "lidc": _lidc}


def sides_of(cases: Sequence[RatedArray], seed: int) -> tuple[list[RatedArray], list[RatedArray]]:
    """Return the training cases whose labels are used, and the others. Patients are drawn as the bundles draw them."""
    known = {item["case"] for item in split_cases([{"case": case.patient} for case in cases], 1 - LABELLED, seed)[0]}
    return [case for case in cases if case.patient in known], [case for case in cases if case.patient not in known]


def loss_of(arm: Arm) -> nn.Module:
    """Return the loss of an arm, with the defaults of the bundles' overlays."""
    of_labels = JDTCELoss(sigmoid=True, batch=True)
    if arm.teacher == "":
        return of_labels
    if arm.teacher == "large" and not arm.unlabelled:
        return TeacherStudentLoss(DistillationLoss(sigmoid=True, batch=True))
    weight = CONSISTENCY if arm.teacher == "mean" else 1.0
    return SemiSupervisedLoss(of_labels, DistillationLoss(sigmoid=True, batch=True, lambda_teacher=1.0), weight)


def drawn_items(
    labelled: Sequence[RatedArray], unlabelled: Sequence[RatedArray], study: StudySet, seed: int
) -> Iterator[dict[str, torch.Tensor]]:
    """Yield batches without an end: as many images without a label, if there are any, as with one.

    The teacher's image has a small change of intensity, the student's is changed further, as by the bundles' `mean_teacher.yaml`.
    Students without a teacher get the same images.
    """
    weak = Compose([RandScaleIntensity(0.1, prob=1.0), RandShiftIntensity(0.1, prob=1.0)])
    strong = Compose([RandScaleIntensity(0.3, prob=0.8), RandAdjustContrast(0.3, gamma=(0.7, 1.5)), RandGaussianNoise(0.5, std=0.05)])
    for number, transform in enumerate((weak, strong)):
        transform.set_random_state(2 * seed + number)
    known = training_batches(labelled, "mean", study)
    unknown = training_batches(unlabelled, "mean", study) if unlabelled else None
    for image, label in known:
        has_label = torch.ones(len(image), dtype=torch.bool)
        if unknown is not None:
            # what the readers say of these is not looked at
            more = next(unknown)[0]
            image, label = torch.cat([image, more]), torch.cat([label, torch.zeros_like(more)])
            has_label = torch.cat([has_label, torch.zeros(len(more), dtype=torch.bool)])
        seen = [torch.as_tensor(weak(one)) for one in image]
        changed = [torch.as_tensor(strong(one)) for one in seen]
        yield {"image": torch.stack(changed), "teacher_image": torch.stack(seen), "label": label, "labelled": has_label}


def learn(
    arm: Arm, study: StudySet, cases: Sequence[RatedArray], seed: int, large: nn.Module | None = None, what: str = ""
) -> nn.Module:
    """Train the network of an arm.

    Args:
        arm: how.
        study: the settings of the student.
        cases: of the training patients.
        seed: of every draw.
        large: the trained larger network, for an arm that learns from it.
        what: the text before the progress bar.

    Returns:
        The network that is scored, in evaluation mode.
    """
    labelled, unlabelled = sides_of(cases, seed)
    torch.manual_seed(seed)
    network = (larger(study) if arm.large else study).network()
    average = MeanTeacher(network, DECAY)
    loss = loss_of(arm)
    ramp = ConsistencyRampUp(loss, study.steps // 4) if arm.teacher == "mean" and isinstance(loss, SemiSupervisedLoss) else None
    teacher = average if arm.teacher == "mean" else large
    batches: Iterator[Any] = drawn_items(cases if arm.all_labels else labelled, unlabelled if arm.unlabelled else [], study, seed)
    if arm.teacher:
        assert teacher is not None
        confidence = CONFIDENCE if arm.teacher == "mean" else None
        prepare = TeacherPrepareBatch(teacher, sigmoid=True, confidence=confidence, teacher_image_key="teacher_image")
        pairs = (prepare(batch) for batch in batches)
    else:
        pairs = ((batch["image"], batch["label"]) for batch in batches)

    def watch(step: int) -> None:
        if arm.averaged:
            average.update(network)
        if ramp is not None:
            ramp.loss.weight = ramp.weight_at(step + 1)

    if ramp is not None:
        ramp.loss.weight = ramp.weight_at(1)
    train(network, loss, pairs, study.steps, what, watch)
    return average.network.eval() if arm.averaged else network


def larger(study: StudySet) -> StudySet:
    """Return the settings of a network with twice the channels."""
    return replace(study, channels=tuple(2 * channels for channels in study.channels))


def run(out: Path, name: str, arm: str, seed: int, parts: dict[str, list[RatedArray]], images: str = "") -> None:
    """Train and score one network, unless that is done. The record of the run is written last.

    Args:
        out: the folder of the runs, which holds the run of the large network if the arm learns from it.
        name: of the set.
        arm: its name in `ARMS`.
        seed: of every draw.
        parts: the cases that are trained on and tested.
        images: :func:`benchmarks.real_raters.digest_of_images` of the parts; empty: it is computed.

    Raises:
        ValueError: if the run that is there has other settings or other images.
    """
    start, place, study, how = time.process_time(), out / run_name(name, arm, seed), SETS[name], ARMS[arm]
    fixed = {"rate": RATE, "labelled": LABELLED, "decay": DECAY, "confidence": CONFIDENCE, "loss": digest_of_loss(loss_of(how), "mean")}
    settings = study.settings() | asdict(how) | fixed | {"images": images or digest_of_images(parts)}
    if place.with_suffix(".json").exists():
        found = json.loads(place.with_suffix(".json").read_text())["settings"]
        if found != settings:
            raise ValueError(error_sentence(f"{place}.json", f"the settings {settings}", str(found), "name another folder"))
        return
    of_large = out / f"{run_name(name, LARGE, seed)}.pt"
    large = load_teachers(larger(study).network(), of_large, sigmoid=True) if how.teacher == "large" else None
    network = learn(how, study, parts["training"], seed, large, f"{name}, {arm}, seed {seed}")
    trained = time.process_time() - start
    probs, test = probabilities(network, parts["test"], study.multiples()), parts["test"]
    rows = [
        {"set": name, "arm": arm, "seed": seed, "case": case.name, "patient": case.patient, **scores(prob, case)}
        for prob, case in zip(probs, test, strict=True)
    ]
    with whole_file(place.with_suffix(".pt")) as draft:
        torch.save(network.state_dict(), draft)
    with whole_file(place.with_suffix(".npy")) as draft:
        np.save(draft, calibration_bins(probs, test))
    write_rows(place.with_suffix(".csv"), rows)
    seconds = [trained, time.process_time() - start]
    record = {"set": name, "arm": arm, "seed": seed, "settings": settings, "seconds": seconds}
    with whole_file(place.with_suffix(".json")) as draft:
        Path(draft).write_text(json.dumps(record, indent=2) + "\n")


def scores(prob: torch.Tensor, case: RatedArray) -> dict[str, float]:
    """Return the scores of one image: against the readers, and the Dice at p > .5 with their majority."""
    return rater_scores(prob, case) | {"dice_half": float(majority_dice(prob[None] > 0.5, votes_of(case)))}


def study_of(out: Path, folder: Path, sets: Sequence[str], seeds: Sequence[int] = SEEDS) -> dict[str, Runs]:
    """Do every run that is not done, all arms of a seed before the next seed. Return those of the seeds that are complete."""
    out.mkdir(parents=True, exist_ok=True)
    parts = {name: parts_of(SETS[name].read(folder)) for name in sets}
    for name in sets:
        known = sides_of(parts[name]["training"], seeds[0])[0]
        patients = len({case.patient for case in known})
        print(f"{name}: {described(parts[name])}; seed {seeds[0]}: {len(known)} labelled, of {patients} patients", flush=True)
    images = {name: digest_of_images(own) for name, own in parts.items()}
    for seed, name, arm in tqdm([(seed, name, arm) for seed in seeds for name in sets for arm in ARMS], desc="runs", disable=None):
        run(out, name, arm, seed, parts[name], images[name])
    return write_tables(out, sets, seeds)


def write_tables(out: Path, sets: Sequence[str], seeds: Sequence[int] = SEEDS) -> dict[str, Runs]:
    """Write the tables of the seeds that are complete, and a row for each of their runs."""
    found = {name: runs_of(out, name, tuple(ARMS), seeds) for name in sets}
    complete = {name: runs for name, runs in found.items() if runs is not None}
    if complete:
        with whole_file(out / "few_labels.md") as draft:
            Path(draft).write_text("\n".join(table(name, runs) for name, runs in complete.items()))
        write_rows(out / "few_labels_runs.csv", [row for name, runs in complete.items() for row in run_rows(name, runs)])
    return complete


def table(name: str, runs: Runs) -> str:
    """Return the scores of each arm, and the differences to the first, in Markdown."""
    first, *others = ARMS
    titles = [SCORES[score][0] for score in SHOWN]
    means = [["arm", *titles]]
    means += [[arm, *(estimate(runs, score, arm).text(*SCORES[score][1:3]) for score in SHOWN)] for arm in ARMS]
    gaps = [["minus", *titles]]
    for one, other in [*((arm, first) for arm in others), ("mean teacher", "labels alone, averaged")]:
        pair = one if other == first else f"{one}, minus {other}"
        gaps.append([pair, *(estimate(runs, score, one, other).text(*SCORES[score][1:3], "+") for score in SHOWN)])
    gaps[0][0] = f"minus {first}"
    seeds = ", ".join(map(str, runs.seeds))
    about = f"{name}, seeds {seeds}: {len(runs.patients):,} images of {len(set(runs.patients.tolist()))} patients"
    return "\n".join([f"**{about}**", "", *markdown(means), "", "**Differences**", "", *markdown(gaps), ""])


def run_rows(name: str, runs: Runs) -> Iterator[dict[str, Any]]:
    """Yield the means of each run over its test images."""
    seconds = {(record["arm"], record["seed"]): record["seconds"][0] for record in runs.records}
    for arm in ARMS:
        by_score = {score: estimate(runs, score, arm).seeds for score in SHOWN}
        for place, seed in enumerate(runs.seeds):
            values = {score: of_seeds[place] for score, of_seeds in by_score.items()}
            yield {"set": name, "arm": arm, "seed": seed, **values, "training_seconds": seconds[arm, seed]}


def main() -> None:
    """Do the runs and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the runs")
    parser.add_argument("--data", type=Path, required=True, help="folder of lidc2d.npz")
    parser.add_argument("--sets", default=",".join(SETS), help="which, separated by commas")
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)), help="which, separated by commas")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    names = arguments.sets.split(",")
    if study_of(arguments.out, arguments.data, names, [int(seed) for seed in arguments.seeds.split(",")]):
        print((arguments.out / "few_labels.md").read_text())


if __name__ == "__main__":
    main()
