from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from PIL import Image

from monai_jdt.handlers import CaseFigureWriter
from monai_jdt.report import draw_case
from monai_jdt.transforms import LoadVolumed
from tests.present import present


def evaluator(writer: CaseFigureWriter, scores: list[float]) -> None:
    """Runs over two cases whose prediction is the score of the run."""

    def step(engine: Engine, number: int) -> list[dict[str, torch.Tensor]]:
        image = MetaTensor(torch.zeros(1, 2, 2, 2), affine=torch.diag(torch.tensor([1.0, 2, 3, 1])))
        batch = [{"case": f"case{number}", "image": image, "votes": torch.ones(3, 2, 2, 2)}]
        vars(engine.state).update(batch=batch)
        return [{"prob": torch.full((1, 2, 2, 2), current[0])}]

    current = [0.0]
    engine = Engine(step)
    state: Any = engine.state  # which has any attribute
    state.key_metric_name = "dice"
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: e.state.metrics.update(dice=current[0]))
    writer.attach(engine)
    for current[0] in scores:
        # a run replaces the state of the one before
        engine.add_event_handler(Events.STARTED, lambda e: setattr(e.state, "key_metric_name", "dice"))
        engine.run([0, 1], max_epochs=1)


@pytest.mark.parametrize(("scores", "best"), [([0.25, 0.75, 0.5], 0.75), ([float("nan"), 0.5], 0.5), ([0.5, float("nan")], 0.5)])
def test_the_case_of_the_best_run_is_drawn(tmp_path: Path, scores: list[float], best: float) -> None:
    drawn = []
    writer = CaseFigureWriter(tmp_path / "x.png", lambda path, **kw: drawn.append((path, kw)), regions=[1], dpi=30)
    evaluator(writer, scores)
    assert writer.write() == str(tmp_path / "x.png")
    (path, arguments) = drawn[0]
    assert path == str(tmp_path / "x.png")
    assert arguments["case"] == "case0"
    assert arguments["prediction"].max() == best
    assert np.array_equal(arguments["affine"], np.diag([1, 2, 3, 1]))
    assert arguments["dpi"] == 30
    assert set(arguments) == {"case", "image", "votes", "prediction", "affine", "regions", "dpi"}


def test_a_named_case(tmp_path: Path) -> None:
    drawn = []
    writer = CaseFigureWriter(tmp_path / "x.png", lambda path, **kw: drawn.append(kw["case"]), case="case1")
    evaluator(writer, [0.5])
    writer.write()
    assert drawn == ["case1"]
    absent = CaseFigureWriter(tmp_path / "x.png", lambda path, **kw: drawn.append(kw["case"]), case="case7")
    evaluator(absent, [0.5])
    assert absent.write() is None


def test_a_picture_has_no_place_in_space_and_is_drawn(tmp_path: Path) -> None:
    drawn = []
    writer = CaseFigureWriter(tmp_path / "x.png", lambda path, **kw: drawn.append(kw), regions=[1])
    image = MetaTensor(torch.zeros(3, 4, 4), meta={"filename_or_obj": "retina/01.JPG"})
    engine = Engine(lambda engine, number: [{"prob": torch.zeros(1, 4, 4)}])
    engine.add_event_handler(
        Events.ITERATION_STARTED,
        lambda e: setattr(e.state, "batch", [{"case": "01", "image": image, "votes": torch.ones(1, 4, 4, dtype=torch.uint8)}]),
    )
    writer.attach(engine)
    engine.run([0], max_epochs=1)
    writer.write()
    assert "affine" not in drawn[0]
    assert draw_case(tmp_path / "y.png", **drawn[0]) == str(tmp_path / "y.png")


def test_the_qubiq_bundle_draws_a_photograph_in_its_colours(tmp_path: Path) -> None:
    """The bundle's own settings: it once drew the last channel of every image."""
    config = ConfigParser.load_config_file("bundles/qubiq_multirater_segmentation/configs/train.yaml")
    figure = config["validate"]["figure"]
    options = {name: figure[name] for name in ("keys", "grey_channel")}
    assert config["figure_channel"] is None
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 200
    Image.fromarray(red).save(tmp_path / "red.png")
    item = LoadVolumed("picture", ensure_channel_first=True)({"picture": str(tmp_path / "red.png"), "case": "01"})
    item["raters"] = torch.ones(1, 8, 8, dtype=torch.uint8)
    writer = CaseFigureWriter(tmp_path / "x.png", draw_case, channel=config["figure_channel"], dpi=40, **options)
    engine = Engine(lambda engine, number: [{"prob": torch.zeros(1, 8, 8)}])
    engine.add_event_handler(Events.ITERATION_STARTED, lambda e: setattr(e.state, "batch", [item]))
    writer.attach(engine)
    engine.run([0], max_epochs=1)
    drawn = np.asarray(Image.open(present(writer.write())).convert("RGB"))
    assert (drawn == [200, 0, 0]).all(axis=2).sum() > 1000


def test_the_truth_of_other_regions_is_not_drawn(tmp_path: Path) -> None:
    drawn = []
    writer = CaseFigureWriter(tmp_path / "x.png", lambda path, **kw: drawn.append(kw), regions=[1])
    engine = Engine(lambda engine, number: [{"prob": torch.zeros(1, 4, 4)}])
    channels = [3, 1]
    item = {"case": "01", "image": torch.zeros(1, 4, 4)}
    engine.add_event_handler(
        Events.ITERATION_STARTED, lambda e: setattr(e.state, "batch", [{**item, "probability": torch.zeros(channels.pop(0), 4, 4)}])
    )
    writer.attach(engine)
    for _ in range(2):
        engine.run([0], max_epochs=1)
        writer.write()
    assert ["truth" in arguments for arguments in drawn] == [False, True]


def test_a_cases_name_is_no_part_of_the_path(tmp_path: Path) -> None:
    writer = CaseFigureWriter(tmp_path / "a" / "b" / "x.png", draw_case, regions=[[1]])
    image = MetaTensor(torch.rand(1, 6, 6, 6), affine=torch.eye(4))
    votes = (torch.rand(2, 6, 6, 6) > 0.5).long()
    writer._kept = writer._arrays("../../y", {"image": image, "votes": votes, "prob": torch.rand(1, 6, 6, 6)})
    assert writer.write() == str(tmp_path / "a" / "b" / "x.png")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["x.png"]
