"""One run of the study: a cell is trained by its bundle, and the weights of the last epoch are scored on the test patients.

What is there is not repeated, and a training that was interrupted goes on after its last complete epoch.
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.data import DataLoader, decollate_batch
from tqdm import tqdm

import monai_jdt
from benchmarks.study.cells import EPOCHS, LEARNING_RATES, Cell
from benchmarks.study.results import ABOUT
from benchmarks.study.scores import ScoredCase, bins_of, chosen, scores
from benchmarks.study.sets import SETS
from monai_jdt.data.files.atomic import whole_file
from monai_jdt.training.checkpoints import read_checkpoint
from monai_jdt.validation import error_sentence

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
OVERLAYS = Path(__file__).resolve().parent / "overlays"
#: How often a training is validated. Trials are more often, for their curve.
LOOKS = 2


@dataclass(frozen=True)
class Run:
    """A cell, a seed, and where everything is.

    Args:
        cell: what is trained.
        seed: of every draw, and the fold where a set has several.
        lists: the set's data lists.
        out: the folder of the study.
        keys: over those of the cell; for trials.
    """

    cell: Cell
    seed: int
    lists: tuple[Path, ...]
    out: Path
    keys: Mapping[str, Any]

    @property
    def about(self) -> tuple[str, str, str, str]:
        """Set, network, cell and seed."""
        return self.cell.set, self.cell.network, self.cell.name, str(self.seed)

    @property
    def folder(self) -> Path:
        """Of this run."""
        return self.out / "runs" / self.cell.slug / f"seed{self.seed}"

    @property
    def bundle(self) -> Path:
        """The bundle's folder, which is only read."""
        return BUNDLES / SETS[self.cell.set].bundle

    def files(self) -> list[str]:
        """Return the configs in their order."""
        return [
            str(self.bundle / "configs" / "train.yaml"),
            *(str(self.overlay(name)) for name in (self.cell.network, *self.cell.overlays)),
        ]

    def overlay(self, name: str) -> Path:
        """Return the file of an overlay: the study's own, or one of the bundle."""
        places = [OVERLAYS, self.bundle / "configs", self.bundle / "configs" / "overlays"]
        return next(place / f"{name}.yaml" for place in places if (place / f"{name}.yaml").is_file())

    def overrides(self) -> dict[str, Any]:
        """Return what is given on the command line."""
        name = self.cell.set
        keys = {"epochs": EPOCHS[name], "learning_rate": LEARNING_RATES[name], **SETS[name].keys, **self.cell.keys, **self.keys}
        return keys | {
            "bundle_root": str(self.bundle),
            "datalist_file": str(self.lists[self.seed % len(self.lists)]),
            "output_dir": str(self.folder / "training" / "eval"),
            "ckpt_dir": str(self.folder / "training" / "models"),
            "val_interval": keys.get("val_interval", max(keys["epochs"] // LOOKS, 1)),
            "seed": self.seed,
            "resume": True,
            "show_progress": False,
            # float32 on every device, so that a GPU's runs can be compared with a CPU's
            "amp": False,
            "device": self.device,
        }

    @property
    def device(self) -> str:
        """Where it is trained. Processes that train together do so on CPUs: there is one GPU at most."""
        return "cuda" if torch.cuda.is_available() and self.cell.processes == 1 else "cpu"

    def identity(self) -> dict[str, Any]:
        """Return what the result depends on: settings, the content of the configs, and the images."""
        keys = {
            key: value
            for key, value in self.overrides().items()
            if key not in ("bundle_root", "datalist_file", "output_dir", "ckpt_dir", "device")
        }
        files = [*self.files(), str(self.bundle / "configs" / "evaluate.yaml")]
        configs = [ConfigParser.load_config_file(file) for file in files]
        return {
            "cell": asdict(self.cell) | {"overlays": list(self.cell.overlays)},
            "keys": keys,
            "configs": _digest(configs),
            "images": _digest_of_images(self.overrides()["datalist_file"]),
        }

    def settings(self) -> str:
        """Return a text that changes with the identity."""
        return _digest(self.identity())


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


@cache
def _digest_of_images(datalist: str) -> str:
    """Return a text that changes with the names and the bytes of the files that a list names."""
    digest = hashlib.sha256()
    for part, items in json.loads(Path(datalist).read_text()).items():
        for item in items if isinstance(items, list) else []:
            for file in (item["image"], *item["raters"]):
                digest.update(f"{part} {item['case']}".encode() + Path(datalist).parent.joinpath(file).read_bytes())
    return digest.hexdigest()[:16]


def perform(run: Run) -> dict[str, Any]:
    """Train and score unless that is done. The record is written last.

    Raises:
        ValueError: if the run that is there has other settings, configs or images.
    """
    record_file, identity = run.folder / "record.json", json.loads(json.dumps(run.identity()))
    if record_file.exists():
        record = json.loads(record_file.read_text())
        if record["identity"] != identity:
            raise ValueError(error_sentence(str(record_file), str(identity), str(record["identity"]), "name another folder"))
        return record
    torch.set_num_threads(1)
    start, began = processor_seconds(), time.monotonic()
    run.folder.mkdir(parents=True, exist_ok=True)
    train(run)
    trained = processor_seconds() - start
    checkpoint = read_checkpoint(run.folder / "training" / "models")
    assert checkpoint is not None
    weights = checkpoint.states["network"]
    validation, test = (list(predictions(run, weights, part)) for part in ("validation", "test"))
    decisions = chosen(validation)
    rows = [about_case(run, case) | scores(case, decisions) for case in test]
    looked_at = [scores(case, decisions) for case in validation]
    write_rows(run.folder / "cases.csv", rows)
    with whole_file(run.folder / "bins.npy") as draft:
        np.save(draft, bins_of(test))
    with whole_file(run.folder / "weights.pt") as draft:
        torch.save(weights, draft)
    shutil.copy(run.folder / "training" / "eval" / "training.csv", run.folder / "training.csv")
    versions = {"monai_jdt": monai_jdt.__version__, "monai": monai.__version__, "torch": torch.__version__}
    seconds = {"training": trained, "all": processor_seconds() - start, "elapsed": time.monotonic() - began}
    means = {score: float(np.mean([case[score] for case in looked_at])) for score in looked_at[0]}
    where = {"versions": versions, "device": name_of(run.device)}
    record = {
        "settings": run.settings(),
        "identity": identity,
        "decisions": asdict(decisions),
        "validation": means,
        "seconds": seconds,
        **where,
    }
    with whole_file(record_file) as draft:
        Path(draft).write_text(json.dumps(record, indent=2) + "\n")
    shutil.rmtree(run.folder / "training")
    return record


def name_of(device: str) -> str:
    """Return "cpu", or what a GPU is called."""
    return torch.cuda.get_device_name() if device == "cuda" else device


def processor_seconds() -> float:
    """Return the processor time of this process and of those that it started. Of a training that went on: since then."""
    return sum(os.times()[:4])


def train(run: Run) -> None:
    """Train by the bundle: in this process, or by torchrun in several."""
    keys, files = run.overrides(), run.files()
    if run.cell.processes > 1:
        start = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={run.cell.processes}"]
        given = [argument for key, value in keys.items() if key != "device" for argument in (f"--{key}", str(value))]
        command = [*start, "-m", "monai.bundle", "run", "--config_file", str(files), *given]
        subprocess.run(command, check=True, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""})
        return
    logging.getLogger("ignite").setLevel(logging.WARNING)
    workflow = ConfigWorkflow(files, logging_file=False, **keys)
    workflow.initialize()
    workflow.run()
    workflow.finalize()


def predictions(run: Run, weights: Mapping[str, torch.Tensor], part: str) -> Iterator[ScoredCase]:
    """Yield the structures of a part's cases as the bundle's evaluation has them: probabilities and votes on the files' own grid."""
    files = [*(file for file in run.files() if "multi_gpu" not in file), str(run.bundle / "configs" / "evaluate.yaml")]
    keys = run.overrides() | {"datalist_section": part, "search_temperature": False}
    workflow = ConfigWorkflow(files, logging_file=False, **keys)
    parser: ConfigParser = workflow.parser
    network, inferer, postprocessing, dataset, split, regions = (
        parser.get_parsed_content(name)
        for name in ("network", "validate#inferer", "validate#postprocessing", "validate#dataset", "split", "regions_named")
    )
    network.load_state_dict(weights)
    network.eval()
    device = next(network.parameters()).device
    loader = DataLoader(dataset, batch_size=1, shuffle=False)
    for item, batch in zip(split[1], tqdm(loader, desc=f"{run.cell.slug}, {part}", disable=None, leave=False), strict=True):
        with torch.no_grad():
            batch["pred"] = inferer(batch["image"].to(device), network)
        for found in decollate_batch(batch):
            yield from ScoredCase.all_of(item, postprocessing(found), regions)


def about_case(run: Run, case: ScoredCase) -> dict[str, Any]:
    return {**dict(zip(ABOUT, run.about, strict=True)), "case": case.name, "patient": case.patient, "structure": case.structure}


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a table as CSV, numbers with five digits."""
    with whole_file(path) as draft, open(draft, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({key: f"{value:.5g}" if isinstance(value, float) else value for key, value in row.items()} for row in rows)
