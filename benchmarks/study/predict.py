"""Predict the held-back patients of the study by weights that it trained.

    python -m benchmarks.study.predict WEIGHTS OUT --data FOLDER [--section test]

WEIGHTS is a file that `--keep` wrote, or `weights.pt` of a run. OUT gets a picture or volume of each case, by
the bundle's own `inference.yaml`, and `OUT/data` the images with their data list. `monai-jdt evaluate OUT/predictions
OUT/data/<set>/datalist.json --section test` scores them.

    python -m benchmarks.study.predict --keep RUN

writes the weights of a run to `benchmarks/study/weights`, in half precision, named by its cell and seed.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigWorkflow

from benchmarks.study.cells import CELLS, Cell
from benchmarks.study.run import Run
from benchmarks.study.sets import PARTS, SETS
from monai_jdt.data.files.atomic import whole_file
from monai_jdt.validation import error_sentence

KEPT = Path(__file__).resolve().parent / "weights"
SEED = "_seed"


def cell_of(weights: Path) -> tuple[Cell, int]:
    """Return the cell and the seed that weights are of: by the name of a kept file, or by the folders of a run.

    Raises:
        ValueError: they are of no cell of the study.
    """
    name = f"{weights.parent.parent.name}_{weights.parent.name}" if weights.name == "weights.pt" else weights.stem
    slug, _, seed = name.rpartition(SEED)
    for cell in CELLS:
        if cell.slug == slug and seed.isdecimal():
            return cell, int(seed)
    where = "weights.pt of a run, or a file named CELL_seedN.pt"
    raise ValueError(error_sentence("WEIGHTS", where, str(weights), f"see {KEPT}"))


def keep(run: Path) -> Path:
    """Write the weights of a run to the folder of those that are kept. Return the file."""
    cell, seed = cell_of(run / "weights.pt")
    states = torch.load(run / "weights.pt", map_location="cpu", weights_only=True)
    file = KEPT / f"{cell.slug}{SEED}{seed}.pt"
    KEPT.mkdir(exist_ok=True)
    halved = {name: value.half() if value.is_floating_point() else value for name, value in states.items()}
    if not all(bool(value.isfinite().all()) for value in halved.values()):
        raise ValueError(error_sentence(str(run), "weights and statistics below 65504, which half precision can hold", "larger ones"))
    with whole_file(file) as draft:
        torch.save(halved, draft)
    return file


def predict(weights: Path, out: Path, data: Path | None, section: str) -> Path:
    """Write the predictions of a section by the bundle's inference. Return their folder."""
    cell, seed = cell_of(weights)
    lists = tuple(SETS[cell.set].lists(data, out / "data" / cell.set.replace(" ", "_")))
    run = Run(cell, seed, lists, out, {})
    states = torch.load(weights, map_location="cpu", weights_only=True)
    whole = out / "weights.pt"  # the bundle's network has single precision
    with whole_file(whole) as draft:
        torch.save({name: value.float() if value.is_floating_point() else value for name, value in states.items()}, draft)
    overrides = run.overrides()
    regions = overrides.get("regions") or {"nodule": [1]}
    keys: dict[str, Any] = {
        key: overrides[key]
        for key in ("bundle_root", "datalist_file", "set", "channels", "normalize", "size", "spacing", "roi", "device")
        if key in overrides
    }
    keys |= {
        "datalist_section": section,
        "ckpt_path": str(whole),
        "output_dir": str(out / "predictions"),
        "regions_named": regions,
        "out_channels": len(regions) + 1,
    }
    files = [str(run.bundle / "configs" / "inference.yaml"), str(run.overlay(cell.network))]
    logging.getLogger("ignite").setLevel(logging.WARNING)
    workflow = ConfigWorkflow(files, workflow_type="infer", logging_file=False, **keys)
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    return out / "predictions"


def main() -> None:
    """Predict, or keep weights."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.study.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", type=Path, nargs="?", help="of a run")
    parser.add_argument("out", type=Path, nargs="?", help="folder of the predictions")
    parser.add_argument("--data", type=Path, help="as for `python -m benchmarks.study`")
    parser.add_argument("--section", default="test", choices=PARTS)
    parser.add_argument("--keep", type=Path, metavar="RUN", help="folder of a run whose weights are kept")
    arguments = parser.parse_args()
    if arguments.keep is not None:
        print(keep(arguments.keep))
    elif arguments.weights is None or arguments.out is None:
        parser.error("expected WEIGHTS and OUT, or --keep RUN")
    else:
        print(predict(arguments.weights, arguments.out, arguments.data, arguments.section))


if __name__ == "__main__":
    main()
