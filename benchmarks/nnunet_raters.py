"""nnU-Net on the raters' majority against nnU-Net on their votes: one set of plans, one network, three seeds, patients held back.

    python benchmarks/nnunet_raters.py OUT --data FOLDER [--sets lidc,phantoms] [--seeds 0,1,2] [--iterations 400] [--patches]

FOLDER holds `lidc3d.npz` (benchmarks/lidc_arrays.py says what is in it); `phantoms` needs none. A set is converted, planned and
preprocessed by nnU-Net's own functions and `monai_jdt.nnunet`. Plans are nnU-Net's with fewer channels and levels, and patches that a
CPU trains on in minutes, the same for both trainers. Both train with nnU-Net's loss settings, augmentation, optimizer and schedule, for
the same number of iterations. A run's scores of each test case are written to OUT when it is done, and a run that is there is not
repeated. At the end `nnunet_raters.csv` has the means by patient, and `nnunet_raters.md` the tables of docs/nnunet.md.

Both trainers draw patches as nnU-Net does, around what the majority marked. `--patches` trains each label with patches around what any
rater marked, too, so that two trainings differ in the label alone, or in the patches alone. Its tables are `nnunet_raters_patches.csv`
and `nnunet_raters_patches.md`.

A score is averaged over the seeds in each case and region, then over cases and regions. Intervals (95 %) are bootstrapped over
patients: they hold for other patients, not for other seeds, whose range stands beside them.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import pickle
import random
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.metrics import compute_dice
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.convert_lidc import convert
from benchmarks.lidc_arrays import lidc_volumes
from monai_jdt.data import read_datalist, split_cases, write_datalist
from monai_jdt.data.files.atomic import whole_file, whole_folder
from monai_jdt.data.layouts.brats import brats_datalist
from monai_jdt.data.phantoms.brats import write_brats_phantoms
from monai_jdt.metrics import RaterBrierScore, ThresholdedDice
from monai_jdt.nnunet.conversion import convert_to_nnunet
from monai_jdt.report.intervals import clustered_interval
from monai_jdt.transforms import LoadRaters

SEEDS = (0, 1, 2)
#: nnU-Net's name of each set.
DATASETS = {"lidc": "Dataset501_LidcNodules", "phantoms": "Dataset502_Phantoms"}
TRAINERS = ("majority", "votes")
#: The same with patches around what any rater marked.
ANY_RATER = {kind: f"{kind}_any_rater" for kind in TRAINERS}
#: Channels of the network's levels, and convolutions per level.
FEATURES, CONVOLUTIONS = (8, 16, 32, 64), 1
#: Iterations of an epoch, and of its validation.
EPOCH, LOOKS = 50, 2
#: Column, name in the tables, factor for showing it, digits, and what is best.
SCORES: dict[str, tuple[str, float, int, str]] = {
    "thresholded_dice": ("thresholded Dice", 1, 3, "more is better"),
    "dice_majority": ("Dice with the majority, p > .5", 1, 3, "more is better"),
    "brier": ("Brier score x 1000", 1000, 2, "less is better"),
    "distance": ("mean abs(p - share of raters) x 1000", 1000, 2, "less is better"),
}


def write_set(name: str, out: Path, data: Path | None) -> Path:
    """Write the images and raters of a set, and return its data list with the sections training, validation and testing."""
    place = out / "files" / name
    listed = place / "datalist.json"
    if listed.exists():
        return listed
    if name == "lidc":
        if data is None:
            raise SystemExit("--data: the folder of lidc3d.npz is needed for the set lidc")
        convert(lidc_volumes(data / "lidc3d.npz"), place)
        return listed
    write_brats_phantoms(str(place / "cases"), cases=60, shape=(40, 40, 32), seed=0, progress=False)
    training, test = split_cases(brats_datalist(str(place / "cases"), "brats2021"), 0.4, 0)
    training, validation = split_cases(training, 0.15, 0)
    write_datalist({"training": training, "validation": validation, "testing": test}, listed)
    return listed


def prepare(name: str, out: Path, data: Path | None) -> None:
    """Convert, plan and preprocess a set, for both trainers."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess_dataset

    from monai_jdt.nnunet.preprocessing import preprocess_raters

    dataset = DATASETS[name]
    done = out / "preprocessed" / dataset / "benchmark.json"
    if done.exists():
        return
    listed = write_set(name, out, data)
    regions = {"nodule": (1,)} if name == "lidc" else {"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)}
    channels = ["grey"] if name == "lidc" else ["flair", "t1", "t1ce", "t2"]
    if not (out / "raw" / dataset).exists():
        convert_to_nnunet(listed, out / "raw" / dataset, regions, channels=channels, test="testing")
    number = int(dataset[7:10])
    extract_fingerprints([number], num_processes=1, show_progress_bar=False)
    plan_experiments([number])
    place = out / "preprocessed" / dataset / "nnUNetPlans.json"
    place.write_text(json.dumps(smaller_plans(json.loads(place.read_text())), indent=4))
    preprocess_dataset(number, configurations=["3d_fullres"], num_processes=[1], show_progress_bar=False)
    made = preprocess_raters(number, ["3d_fullres"], processes=1)
    done.write_text(json.dumps({"raters": made.raters, "cases": made.cases}) + "\n")


def smaller_plans(plans: dict[str, Any]) -> dict[str, Any]:
    """Return nnU-Net's plans with a network that trains on a CPU: the first levels, and fewer channels."""
    settings = plans["configurations"]["3d_fullres"]
    network = settings["architecture"]["arch_kwargs"]
    levels = min(len(FEATURES), network["n_stages"])
    network |= {"n_stages": levels, "features_per_stage": list(FEATURES[:levels])}
    network |= {"n_conv_per_stage": [CONVOLUTIONS] * levels, "n_conv_per_stage_decoder": [CONVOLUTIONS] * (levels - 1)}
    network |= {key: network[key][:levels] for key in ("kernel_sizes", "strides")}
    strides = np.prod(network["strides"], 0)
    patch = [min(size, 32) if axis else min(size, 16) for axis, size in enumerate(settings["patch_size"])]
    settings["patch_size"] = [max(int(size // stride * stride), int(stride)) for size, stride in zip(patch, strides, strict=True)]
    settings["batch_size"] = 2
    plans["configurations"] = {"3d_fullres": settings}
    return plans


def short_trainer(kind: str, iterations: int) -> type:
    """Return nnU-Net's trainer, or that of the votes, for a number of iterations.

    With patches around what any rater marked, the majority is the one vote of the votes' trainer.
    """
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from monai_jdt.nnunet.trainer import nnUNetTrainerJDT

    base: Any = nnUNetTrainer if kind == "majority" else nnUNetTrainerJDT

    def majority_loss(self: Any) -> torch.nn.Module:
        loss = base._build_loss(self)
        loss.register_forward_pre_hook(lambda _, given: (given[0], label_as_vote(given[1])))
        return loss

    def start(self: Any, plans: dict, configuration: str, fold: int, dataset_json: dict, device: torch.device) -> None:
        base.__init__(self, plans, configuration, fold, dataset_json, device)
        self.num_epochs = max(iterations // EPOCH, 1)
        self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = min(EPOCH, iterations), LOOKS
        self.disable_checkpointing = True

    changed = {"__init__": start} | ({"_build_loss": majority_loss} if kind == ANY_RATER["majority"] else {})
    return type(f"{base.__name__}Short", (base,), changed)


def label_as_vote(target: Any) -> Any:
    """Return the target whose only rater is the fused label: `(N, 1 + R, *S)` to `(N, 2, *S)`."""
    return torch.cat([target[:, :1]] * 2, 1)


def any_rater_patches(place: Path) -> str:
    """Return the folder of the data with raters whose places of foreground are those that any rater marked.

    Args:
        place: the set's folder of preprocessed data.
    """
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

    folder, source = (place / f"nnUNetPlans{name}_3d_fullres" for name in ("AnyRater", "Raters"))
    if not folder.exists():
        cases = nnUNetDatasetBlosc2(str(source))
        with whole_folder(folder) as draft:
            for path in source.iterdir():
                if path.suffix != ".pkl":
                    (Path(draft) / path.name).symlink_to(Path("..") / source.name / path.name)
                    continue
                _, segmentation, _, about = cases.load_case(path.stem)
                regions = list(about["class_locations"])
                about["class_locations"] = DefaultPreprocessor._sample_foreground_locations(np.asarray(segmentation[:]), regions)
                (Path(draft) / path.name).write_bytes(pickle.dumps(about))
    return folder.name


def trained(name: str, kind: str, seed: int, out: Path, iterations: int) -> Any:
    """Return the trainer after its training. All draws follow from the seed."""
    place = out / "preprocessed" / DATASETS[name]
    plans = "nnUNetPlans" if kind == "majority" else "nnUNetPlansRaters"
    read = json.loads((place / f"{plans}.json").read_text()) | {"continue_training": False}
    if kind in ANY_RATER.values():
        read["configurations"]["3d_fullres"]["data_identifier"] = any_rater_patches(place)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    content = json.loads((place / "dataset.json").read_text())
    trainer = short_trainer(kind, iterations)(read, "3d_fullres", 0, content, torch.device("cpu"))
    trainer.plot_network_architecture = lambda: None
    trainer.run_training()
    return trainer


def probabilities(trainer: Any, images: Sequence[str]) -> np.ndarray:
    """Return nnU-Net's probabilities of an image, one channel for each region, axes x, y, z. No mirrored images are added."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(use_mirroring=False, device=trainer.device, allow_tqdm=False)
    manager = trainer.plans_manager
    parameters = [trainer.network.state_dict()]
    about = (manager, trainer.configuration_manager, parameters, trainer.dataset_json, type(trainer).__name__, None)
    trainer.set_deep_supervision_enabled(False)
    predictor.manual_initialization(trainer.network, *about)
    image, properties = manager.image_reader_writer_class().read_images(list(images))
    _, found = predictor.predict_single_npy_array(image, properties, None, None, True)
    found = np.asarray(found, np.float32)
    return (found if trainer.label_manager.has_regions else found[1:]).transpose(0, 3, 2, 1)


def scores_of(prob: np.ndarray, votes: torch.Tensor, group: Sequence[int]) -> dict[str, float]:
    """Return the scores of one region.

    Args:
        prob: `S`.
        votes: label values of the raters, `(R, *S)`.
        group: the label values of the region.
    """
    said = torch.isin(votes, torch.tensor(list(group)))[None]
    p = torch.from_numpy(np.ascontiguousarray(prob))[None, None]
    share = said.float().mean(1, keepdim=True)
    majority = (share > 0.5).float()
    return {
        "thresholded_dice": float(ThresholdedDice(votes=True)(p, said.byte())),
        "dice_majority": float(compute_dice((p > 0.5).float(), majority, ignore_empty=False)),
        "brier": float(RaterBrierScore()(p, said.byte())),
        "distance": float((p - share).abs().mean()),
        "majority_empty": float(not majority.any()),
    }


def run(name: str, kind: str, seed: int, out: Path, iterations: int) -> None:
    """Train and score one network, unless that is done."""
    place = out / f"{name}_{kind}_{seed}_{iterations}.csv"
    if place.exists():
        return
    start = time.process_time()
    trainer = trained(name, kind, seed, out, iterations)
    seconds = time.process_time() - start
    content = {key: tuple(value) if isinstance(value, list) else (value,) for key, value in trainer.dataset_json["labels"].items()}
    regions = {key: value for key, value in content.items() if key != "background"}
    rows = []
    for item in read_datalist(out / "raw" / DATASETS[name] / "datalist.json", "testing"):
        images = [item["image"]] if isinstance(item["image"], str) else item["image"]
        votes = LoadRaters()(item["raters"]).as_tensor().long()
        for (region, group), prob in zip(regions.items(), probabilities(trainer, images), strict=True):
            about = {"set": name, "trainer": kind, "seed": seed, "case": item["case"], "patient": item["patient"], "region": region}
            rows.append(about | scores_of(prob, votes, group) | {"seconds": round(seconds)})
    write_rows(place, rows)


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with whole_file(path) as draft, open(draft, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({key: f"{value:.5g}" if isinstance(value, float) else value for key, value in row.items()} for row in rows)


def table(rows: Sequence[Mapping[str, str]], name: str, seeds: Sequence[int]) -> str:
    """Return a set's means, and the paired differences of the votes to the majority, as Markdown."""
    own = [row for row in rows if row["set"] == name]
    cases = sorted({(row["case"], row["region"], row["patient"]) for row in own})
    patients = [patient for _, _, patient in cases]
    by_run = {(row["trainer"], int(row["seed"]), row["case"], row["region"]): row for row in own}

    def values(kind: str, score: str) -> np.ndarray:
        return np.array([[float(by_run[kind, seed, case, region][score]) for case, region, _ in cases] for seed in seeds])

    def text(found: np.ndarray, factor: float, digits: int, sign: str = "") -> str:
        numbers = [*clustered_interval(found.mean(0).tolist(), patients), found.mean(1).min(), found.mean(1).max()]
        mean, low, high, least, most = (f"{factor * number:{sign}.{digits}f}" for number in numbers)
        return f"{mean} [{low}, {high}] ({least} to {most})"

    images, people = len({case for case, _, _ in cases}), len(set(patients))
    lines = [f"**{name}: {images} test cases of {people} patients**", "", "| score | majority | votes | votes minus majority |"]
    lines.append("| --- | --- | --- | --- |")
    for score, (title, factor, digits, best) in SCORES.items():
        stock, ours = (values(kind, score) for kind in TRAINERS)
        cells = [text(stock, factor, digits), text(ours, factor, digits), text(ours - stock, factor, digits, "+")]
        lines.append(f"| {title} ({best}) | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def patches_table(rows: Sequence[Mapping[str, str]], name: str, seeds: Sequence[int]) -> str:
    """Return a set's Brier score x 1000 of each label with each kind of patches, a mean over cases and regions for each seed."""
    lines = [f"**{name}: Brier score x 1000, seeds {', '.join(map(str, seeds))}**", ""]
    lines += ["| | nnU-Net's patches | patches around what any rater marked |", "| --- | --- | --- |"]
    for label, other in ANY_RATER.items():
        cells = []
        for kind in (label, other):
            runs = [[float(row["brier"]) for row in rows if run_of(row) == (name, kind, seed)] for seed in seeds]
            cells.append(", ".join(f"{1000 * np.mean(scores):.1f}" for scores in runs))
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def run_of(row: Mapping[str, str]) -> tuple[str, str, int]:
    return row["set"], row["trainer"], int(row["seed"])


def study(out: Path, data: Path | None, sets: Sequence[str], seeds: Sequence[int], iterations: int, patches: bool = False) -> None:
    """Do every run that is not done, all trainers of a seed before the next seed, and write the tables."""
    trainers = (*TRAINERS, *ANY_RATER.values()) if patches else TRAINERS
    written, text_of = ("nnunet_raters_patches", patches_table) if patches else ("nnunet_raters", table)
    for variable in ("raw", "preprocessed", "results"):
        (out / variable).mkdir(parents=True, exist_ok=True)
        os.environ[f"nnUNet_{variable}"] = str(out / variable)
    # nnU-Net's planner takes this number for torch's threads, its trainer for processes beside its own
    os.environ |= {"nnUNet_n_proc_DA": "1", "nnUNet_compile": "f"}
    for name in sets:
        prepare(name, out, data)
    os.environ |= {"nnUNet_n_proc_DA": "0"}
    for seed, name, kind in tqdm([(s, n, k) for s in seeds for n in sets for k in trainers], desc="runs", disable=None):
        run(name, kind, seed, out, iterations)
    paths = [out / f"{name}_{kind}_{seed}_{iterations}.csv" for seed in seeds for name in sets for kind in trainers]
    rows = [row for path in paths for row in csv.DictReader(path.open())]
    with whole_file(out / f"{written}.md") as draft:
        Path(draft).write_text("\n\n".join(text_of(rows, name, seeds) for name in sets) + "\n")
    write_rows(out / f"{written}.csv", rows)


def main() -> None:
    """Do the runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the runs")
    parser.add_argument("--data", type=Path, help="folder of lidc3d.npz")
    parser.add_argument("--sets", default=",".join(DATASETS), help="which, separated by commas")
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)), help="which, separated by commas")
    parser.add_argument("--iterations", type=int, default=400, help=f"of each training, a multiple of {EPOCH} or fewer")
    parser.add_argument("--patches", action="store_true", help="train each label with patches around what any rater marked, too")
    arguments = parser.parse_args()
    if arguments.iterations > EPOCH and arguments.iterations % EPOCH:
        parser.error(f"--iterations: expected a multiple of {EPOCH}, or fewer, got {arguments.iterations}")
    torch.set_num_threads(1)
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    study(arguments.out.resolve(), arguments.data, arguments.sets.split(","), seeds, arguments.iterations, arguments.patches)


if __name__ == "__main__":
    main()
