"""Training from votes by an overlay: the same losses as from the raters' average, without a soft label."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from monai.bundle import run

from monai_jdt.data import write_brats_phantoms, write_qubiq_phantoms
from tests.bundles import test_brats_bundle as brats
from tests.bundles import test_lidc_bundle as lidc
from tests.bundles import test_qubiq_bundle as qubiq
from tests.bundles.lidc_set import write_lidc_set

# the loss and the label of each step, as the trainer has them
WATCH = """
+imports: [$from monai_jdt.handlers import mean_loss]
+train#handlers:
- _target_: monai.handlers.StatsHandler
  epoch_log: false
  iteration_print_logger: "$lambda engine: print(mean_loss(engine.state.output), engine.state.output[0]['label'].dtype,
    engine.state.output[0]['label'].element_size(), engine.state.output[0]['label'].shape[0], file=open(@bundle_root + '/seen', 'a'))"
"""


def _steps(bundle: ModuleType, root: Path, data: str, *names: str, **overrides: object) -> list[list[str]]:
    """Loss, dtype of the label, its bytes, its channels, for each step of two epochs."""
    root.mkdir()
    (root / "watch.yaml").write_text(WATCH)
    files = [*bundle.configs("train.yaml", *names), str(root / "watch.yaml")]
    settings: dict[str, Any] = {
        **bundle.TINY,
        "epochs": 2,
        "val_interval": 2,
        "batch_size": 4,
        "optimizer#eps": 1e-3,
        "logging_file": False,
    }
    run(config_file=files, bundle_root=str(root), dataset_dir=data, **{**settings, **overrides})
    assert (root / "models" / "model.pt").is_file()
    assert (root / "eval" / "case.png").is_file()
    return [line.split() for line in (root / "seen").read_text().splitlines()]


@pytest.mark.parametrize("bundle", [brats, lidc, qubiq], ids=["brats", "lidc", "qubiq"])
def test_votes_give_the_losses_of_their_average(bundle: ModuleType, tmp_path: Path) -> None:
    if bundle is brats:
        data = write_brats_phantoms(tmp_path / "set", cases=6, shape=(16, 16, 16), progress=False)
    elif bundle is lidc:
        data = write_lidc_set(tmp_path / "set")
    else:
        data = write_qubiq_phantoms(tmp_path / "set", datasets="prostate", cases=8, shape=(16, 20), progress=False)
    averaged = _steps(bundle, tmp_path / "average", data)
    counted = _steps(bundle, tmp_path / "votes", data, "votes.yaml")
    assert len(averaged) == len(counted) >= 2
    assert [float(step[0]) for step in counted] == pytest.approx([float(step[0]) for step in averaged], rel=1e-4)
    assert {step[1:3] == [str(torch.uint8), "1"] for step in counted} == {True}
    assert {step[2] for step in averaged} == {"4"}
    # more raters than channels, and batches where not every case has as many
    assert max(int(step[3]) for step in counted) > max(int(step[3]) for step in averaged)


def test_single_raters_can_be_drawn_as_votes(tmp_path: Path) -> None:
    data = write_qubiq_phantoms(tmp_path / "set", datasets="prostate", cases=4, shape=(16, 20), progress=False)
    drawn = _steps(qubiq, tmp_path / "drawn", data, "votes.yaml", label_source="random_rater")
    assert {step[1:] == [str(torch.uint8), "1", "1"] for step in drawn} == {True}


def test_a_fused_label_source_is_no_vote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        _steps(qubiq, tmp_path / "staple", str(tmp_path), "votes.yaml", label_source="staple")
    assert caught.value.code == 1
    assert "label_source" in capsys.readouterr().err
