"""The study of label smoothing: its labels, its table, and runs that are not repeated."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import label_smoothing
from benchmarks.rater_training import label_of
from tests.benchmarks.test_real_raters import folder, tiny

assert folder
assert tiny


def test_only_labels_near_a_border_are_smoothed() -> None:
    votes = torch.zeros(1, 4, 24, 24, dtype=torch.bool)
    votes[:, :3, :, 12:] = True
    label = label_of(votes, "majority, smooth borders")
    hard = label_of(votes, "majority")
    # three columns on each side: (1 - e) t + e / 2 with e = .5
    assert torch.equal(label[..., :9], hard[..., :9])
    assert torch.equal(label[..., 15:], hard[..., 15:])
    assert (label[..., 9:12] == 0.25).all()
    assert (label[..., 12:15] == 0.75).all()
    assert torch.equal(label_of(votes, "mean"), 0.75 * hard)


def test_a_study_that_was_interrupted_goes_on(folder: Path, tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    out = folder / "out"
    trained: list[str] = []
    train = label_smoothing.run

    def stop_at_the_sixth(*arguments: object) -> None:
        trained.append(str(arguments[4]))
        if len(trained) == 6:
            raise KeyboardInterrupt
        train(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(label_smoothing, "run", stop_at_the_sixth)
    with pytest.raises(KeyboardInterrupt):
        label_smoothing.study(out, folder, seeds=(0, 1))
    assert "**Seeds 0: " in (out / "label_smoothing.md").read_text()
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.json")}
    assert len(before) == 5
    runs = label_smoothing.study(out, folder, seeds=(0, 1))
    assert runs is not None
    assert runs.seeds == (0, 1)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    text = (out / "label_smoothing.md").read_text()
    assert text.startswith("**Seeds 0, 1: ")
    assert text.count("| thresholded Dice |") == 2
    # smoothing changes what is learnt
    scores = [runs.table[label, "brier"].mean() for label in label_smoothing.LABELS]
    assert len(set(scores)) == len(scores)
