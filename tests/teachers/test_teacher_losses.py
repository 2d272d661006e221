"""The losses of a prediction, labels of some images, and a teacher's logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.data import list_data_collate
from monai.engines import SupervisedTrainer
from torch import nn

from monai_jdt.handlers import ConsistencyRampUp
from monai_jdt.losses import DistillationLoss, JDTCELoss
from monai_jdt.teachers import (
    LabelledAndUnlabelled,
    MeanTeacher,
    SemiSupervisedLoss,
    TeacherPrepareBatch,
    TeacherStudentLoss,
    TeacherTarget,
)
from monai_jdt.transforms import rater_collate


def tensors(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    source = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, 3, 2, 10, generator=source).unbind()
    student, teacher = student[:, :, None].expand(3, 2, 4, 10).clone(), teacher[:, :, None].expand(3, 2, 4, 10).clone()
    return student.requires_grad_(), teacher, torch.rand(3, 2, 4, 10, generator=source)


def test_distillation_is_that_of_the_loss() -> None:
    logits, teacher, label = tensors()
    mask = torch.rand(3, 1, 4, 10, generator=torch.Generator().manual_seed(1)) > 0.3
    loss = DistillationLoss(sigmoid=True, temperature=2.0)
    target = TeacherTarget(label, teacher, mask=mask)
    assert torch.equal(TeacherStudentLoss(loss)(logits, target), loss(logits, label, teacher, mask))
    with pytest.raises(ValueError, match=r"target\.trusted: expected None, since one mask is for both halves"):
        TeacherStudentLoss(loss)(logits, target._replace(trusted=teacher > 0))
    with pytest.raises(ValueError, match="expected a label of every image, got images without one"):
        TeacherStudentLoss(loss)(logits, target._replace(labelled=torch.tensor([True, True, False])))
    with pytest.raises(TypeError, match=r"loss: expected a monai_jdt\.losses\.DistillationLoss, got JDTCELoss"):
        TeacherStudentLoss(JDTCELoss(sigmoid=True))  # type: ignore[arg-type]


def test_labels_of_some_images_and_the_teacher_of_all() -> None:
    logits, teacher, label = tensors()
    label[1] = torch.nan  # an image without a label may hold anything
    supervised, consistency = JDTCELoss(sigmoid=True), DistillationLoss(sigmoid=True)
    both = SemiSupervisedLoss(supervised, consistency, weight=0.3)
    target = TeacherTarget(label, teacher, labelled=torch.tensor([True, False, True]))
    expected = supervised(logits[[0, 2]], label[[0, 2]]) + 0.3 * consistency(logits, None, teacher)
    got = both(logits, target)
    torch.testing.assert_close(got, expected)
    ours, theirs = torch.autograd.grad(got, logits)[0], torch.autograd.grad(expected, logits)[0]
    torch.testing.assert_close(ours, theirs)
    assert bool(ours[1].any())


@pytest.mark.parametrize("loss", [JDTCELoss(sigmoid=True), nn.BCEWithLogitsLoss()], ids=["ours", "torch's"])
def test_a_batch_without_labels_learns_from_the_teacher_alone(loss: nn.Module) -> None:
    logits, teacher, label = tensors()
    consistency = DistillationLoss(sigmoid=True)
    both = SemiSupervisedLoss(loss, consistency)
    expected = consistency(logits, None, teacher)
    torch.testing.assert_close(both(logits, TeacherTarget(label, teacher, labelled=torch.zeros(3, dtype=torch.bool))), expected)
    torch.testing.assert_close(both(logits, TeacherTarget(None, teacher)), expected)


def test_pairs_of_two_lists_make_one_batch() -> None:
    labelled = [{"image": torch.full((1, 4), float(i)), "label": torch.ones(1, 4)} for i in range(2)]
    unlabelled = [{"image": torch.full((1, 4), 10.0 + i)} for i in range(3)]
    pairs = LabelledAndUnlabelled(labelled, unlabelled)
    assert len(pairs) == 3
    together = list_data_collate([pairs[i] for i in range(3)])
    assert together["image"][:, 0, 0].tolist() == [0, 10, 1, 11, 0, 12]
    assert together["labelled"].tolist() == [True, False] * 3
    assert together["label"][:, 0, 0].tolist() == [1, 0, 1, 0, 1, 0]
    for one, other, name in ((labelled, [], "unlabelled"), ([], unlabelled, "labelled")):
        with pytest.raises(ValueError, match=f"{name}: expected at least one case, got none"):
            LabelledAndUnlabelled(one, other)


def test_the_teacher_is_trusted_in_places_and_labels_everywhere() -> None:
    logits, teacher, label = tensors()
    supervised, consistency = JDTCELoss(sigmoid=True), DistillationLoss(sigmoid=True)
    trusted = teacher.sigmoid() > 0.6
    got = SemiSupervisedLoss(supervised, consistency)(logits, TeacherTarget(label, teacher, trusted=trusted))
    torch.testing.assert_close(got, supervised(logits, label) + consistency(logits, None, teacher, trusted))


def test_crops_of_a_case_are_several_items() -> None:
    crops = [[{"image": torch.ones(1, 4), "label": torch.ones(1, 4)} for _ in range(2)]]
    pairs = LabelledAndUnlabelled(crops, [[{"image": torch.zeros(1, 4)} for _ in range(3)]])
    assert [item["labelled"] for item in pairs[0]] == [True, True, False, False, False]


def test_votes_of_an_image_without_raters_say_nothing() -> None:
    votes: list[dict[str, Any]] = [{"image": torch.zeros(1, 4), "label": torch.tensor([[0, 1, 1, 0], [0, 1, 0, 0]], dtype=torch.uint8)}]
    votes[0]["rater_names"] = ["anna", "ben"]
    pairs = LabelledAndUnlabelled(votes, [{"image": torch.zeros(1, 4)}], votes=True)
    together = rater_collate([pairs[0]], keys="label")
    assert together["rater_weights"].tolist() == [[1, 1], [0, 0]]
    target = TeacherTarget(
        together["label"], torch.zeros(2, 1, 4), labelled=together["labelled"], rater_weights=together["rater_weights"]
    )
    logits = torch.randn(2, 1, 4, generator=torch.Generator().manual_seed(0))
    supervised = JDTCELoss(sigmoid=True, votes=True)
    both = SemiSupervisedLoss(supervised, DistillationLoss(sigmoid=True), weight=0.0)
    torch.testing.assert_close(both(logits, target), supervised(logits[:1], together["label"][:1]))


def discs(count: int, labelled: bool) -> list[dict[str, Any]]:
    """Discs in noise."""
    source = torch.Generator().manual_seed(count)
    y, x = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    items: list[dict[str, Any]] = []
    for _ in range(count):
        centre = 4 + 8 * torch.rand(2, generator=source)
        disc = ((y - centre[0]) ** 2 + (x - centre[1]) ** 2 < 12).float()[None]
        items.append({"image": disc + 0.5 * torch.randn(1, 16, 16, generator=source), **({"label": disc} if labelled else {})})
    return items


def test_monais_trainer_learns_with_a_mean_teacher() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 8, 5, padding=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1))
    teacher = MeanTeacher(network, decay=0.9)
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    teacher.follow(network, optimizer)
    loss = SemiSupervisedLoss(JDTCELoss(sigmoid=True), DistillationLoss(sigmoid=True), weight=0.5)
    pairs = LabelledAndUnlabelled(discs(2, True), discs(6, False))
    loader = torch.utils.data.DataLoader(pairs, batch_size=2, collate_fn=list_data_collate)
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=12,
        train_data_loader=loader,
        network=network,
        optimizer=optimizer,
        loss_function=loss,
        prepare_batch=TeacherPrepareBatch(teacher, sigmoid=True, confidence=0.6),
    )
    ramp_up = ConsistencyRampUp(loss, epochs=10)
    ramp_up.attach(trainer)
    held = discs(20, True)
    image, label = (torch.stack([item[key] for item in held]) for key in ("image", "label"))

    def score() -> float:
        with torch.no_grad():
            mask = (teacher(image) > 0).float()
        return float(2 * (mask * label).sum() / (mask + label).sum())

    before = score()
    trainer.run()
    assert score() > max(before, 0.8)
    assert loss.weight == 0.5
    assert int(teacher.average.n_averaged) == 1 + 12 * len(loader)
    assert ramp_up.weight_at(1) == pytest.approx(0.5 * 2.718281828 ** (-5 * 0.81))
    assert ConsistencyRampUp(loss, epochs=0, weight=2.0).weight_at(1) == 2
