import subprocess
import sys

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor

from monai_jdt.handlers import CaseFigureWriter
from monai_jdt.report import draw_case


def evaluator(writer, scores):
    """Runs over two cases whose prediction is the score of the run."""

    def step(engine, number):
        image = MetaTensor(torch.zeros(1, 2, 2, 2), affine=torch.diag(torch.tensor([1.0, 2, 3, 1])))
        engine.state.batch = [{"case": f"case{number}", "image": image, "votes": torch.ones(3, 2, 2, 2)}]
        return [{"prob": torch.full((1, 2, 2, 2), scores[engine.run_count])}]

    engine = Engine(step)
    engine.run_count = 0
    engine.state.key_metric_name = "dice"
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: e.state.metrics.update(dice=scores[e.run_count]))
    writer.attach(engine)
    for engine.run_count in range(len(scores)):
        # a run replaces the state of the one before
        engine.add_event_handler(Events.STARTED, lambda e: setattr(e.state, "key_metric_name", "dice"))
        engine.run([0, 1], max_epochs=1)


@pytest.mark.parametrize(("scores", "best"), [([0.25, 0.75, 0.5], 0.75), ([float("nan"), 0.5], 0.5), ([0.5, float("nan")], 0.5)])
def test_the_case_of_the_best_run_is_drawn(tmp_path, scores, best):
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


def test_a_named_case(tmp_path):
    drawn = []
    writer = CaseFigureWriter(tmp_path / "x.png", lambda path, **kw: drawn.append(kw["case"]), case="case1")
    evaluator(writer, [0.5])
    writer.write()
    assert drawn == ["case1"]
    absent = CaseFigureWriter(tmp_path / "x.png", lambda path, **kw: drawn.append(kw["case"]), case="case7")
    evaluator(absent, [0.5])
    assert absent.write() is None


def test_a_picture_has_no_place_in_space_and_is_drawn(tmp_path):
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


def test_the_truth_of_other_regions_is_not_drawn(tmp_path):
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


def test_handlers_import_without_ignite():
    code = "import sys; sys.modules['ignite'] = None; import monai_jdt.handlers as h; print(h.LossProgressBar.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "LossProgressBar", done.stderr


def test_a_cases_name_is_no_part_of_the_path(tmp_path):
    from monai_jdt.report import draw_case

    writer = CaseFigureWriter(tmp_path / "a" / "b" / "x.png", draw_case, regions=[[1]])
    image = MetaTensor(torch.rand(1, 6, 6, 6), affine=torch.eye(4))
    votes = (torch.rand(2, 6, 6, 6) > 0.5).long()
    writer._kept = writer._arrays("../../y", {"image": image, "votes": votes, "prob": torch.rand(1, 6, 6, 6)})
    assert writer.write() == str(tmp_path / "a" / "b" / "x.png")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["x.png"]
