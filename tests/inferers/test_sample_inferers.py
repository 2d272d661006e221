"""The sources of samples: what all share, and what each is for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.networks.nets.dynunet import DynUNet
from torch import nn

from monai_jdt.inferers import CheckpointSamples, DrawnSamples, DropoutSamples, RaterSamples, SampleInferer
from monai_jdt.inferers.module_modes import unwrapped
from monai_jdt.transforms import DecideMask

IMAGES = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def network(channels: int = 2, dropout: float = 0.5) -> nn.Sequential:
    torch.manual_seed(3)
    layers = [nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Dropout2d(dropout), nn.Conv2d(6, channels, 1)]
    return nn.Sequential(*layers).eval()


def saved(folder: Path, number: int = 3) -> list[str]:
    """Return the files of networks with different weights."""
    paths = []
    for seed in range(number):
        other = network()
        last = other[3]
        assert isinstance(last, nn.Conv2d)
        nn.init.normal_(last.weight, generator=torch.Generator().manual_seed(seed))
        paths.append(str(folder / f"{seed}.pt"))
        torch.save(other.state_dict(), paths[-1])
    return paths


SOURCES: dict[str, Callable[..., SampleInferer]] = {
    "dropout": lambda folder, **more: DropoutSamples(3, sigmoid=True, **more),
    "checkpoints": lambda folder, **more: CheckpointSamples(saved(folder), sigmoid=True, **more),
    "raters": lambda folder, **more: RaterSamples(2, sigmoid=True, **more),
    "drawn": lambda folder, **more: DrawnSamples(3, sigmoid=True, **more),
}
each_source = pytest.mark.parametrize("source", SOURCES)


@each_source
def test_samples_are_binary_and_reproducible(source: str, tmp_path: Path) -> None:
    make, net = SOURCES[source](tmp_path), network()
    samples = make(IMAGES, net)
    assert samples.shape == ((2, 2, 1, 8, 8) if source == "raters" else (2, 3, 2, 8, 8))
    assert samples.dtype is torch.bool
    assert not samples.requires_grad
    assert not torch.equal(samples[:, 0], samples[:, 1])
    torch.rand(5)
    assert torch.equal(make(IMAGES, net), samples)


@each_source
def test_a_sliding_window_is_wrapped(source: str, tmp_path: Path) -> None:
    window = SlidingWindowInferer((8, 8), overlap=0)
    assert torch.equal(SOURCES[source](tmp_path, inferer=window)(IMAGES, network()), SOURCES[source](tmp_path)(IMAGES, network()))


@each_source
def test_merged_channels_are_the_same_samples(source: str, tmp_path: Path) -> None:
    merged = SOURCES[source](tmp_path, merge_channels=True)(IMAGES, network())
    samples = SOURCES[source](tmp_path)(IMAGES, network())
    assert torch.equal(merged.unflatten(1, samples.shape[1:3]), samples)


@each_source
def test_the_network_and_the_generator_are_as_before(source: str, tmp_path: Path) -> None:
    make, net = SOURCES[source](tmp_path), network().train()
    net[1].eval()  # a user froze it
    state, modes = {name: value.clone() for name, value in net.state_dict().items()}, [m.training for m in net.modules()]
    numbers = torch.random.get_rng_state()
    make(IMAGES, net)
    assert torch.equal(torch.random.get_rng_state(), numbers)
    assert [m.training for m in net.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())


@each_source
def test_meta_of_the_image_stays(source: str, tmp_path: Path) -> None:
    images = MetaTensor(IMAGES, affine=torch.diag(torch.tensor([2.0, 3.0, 1.0, 1.0])), meta={"filename_or_obj": ["a", "b"]})
    samples = SOURCES[source](tmp_path)(images, network())
    assert isinstance(samples, MetaTensor)
    assert samples.meta["filename_or_obj"] == ["a", "b"]
    assert torch.equal(samples.affine, images.affine)


class Failing(nn.Module):
    """Fails at the second call."""

    def __init__(self) -> None:
        super().__init__()
        self.drop, self.norm, self.calls = nn.Dropout(0.5), nn.BatchNorm2d(1), 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        assert (self.drop.training, self.norm.training) == (True, False)
        if self.calls == 2:
            raise RuntimeError("no more")
        return self.norm(self.drop(image))


@pytest.mark.parametrize("training", [False, True])
def test_dropout_is_put_back_after_an_exception(training: bool) -> None:
    net = Failing().train(training)
    numbers = torch.random.get_rng_state()
    with pytest.raises(RuntimeError, match="no more") as caught:
        DropoutSamples(3)(IMAGES, net)
    assert caught.value is not None  # the traceback lives, and with it the frames in which modes were changed
    assert [m.training for m in net.modules()] == [training] * 3
    assert torch.equal(torch.random.get_rng_state(), numbers)


def test_dropout_is_put_back_when_a_decision_fails() -> None:
    def fail(prob: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("undecided")

    net = network()
    numbers = torch.random.get_rng_state()
    with pytest.raises(RuntimeError, match="undecided") as caught:
        DropoutSamples(3, decide=fail)(IMAGES, net)
    assert caught.value is not None
    assert not any(m.training for m in net.modules())
    assert torch.equal(torch.random.get_rng_state(), numbers)


def test_dropout_samples_are_those_of_a_network_with_dropout_on() -> None:
    net = network()
    probs = DropoutSamples(5, sigmoid=True, seed=4, kind="probability")(IMAGES, net)
    net[2].train()
    torch.manual_seed(4)
    with torch.no_grad():
        expected = torch.stack([net(IMAGES).sigmoid() for _ in range(5)], 1)
    assert torch.equal(probs, expected)


def test_dropout_without_a_seed_goes_on() -> None:
    make, net = DropoutSamples(2, sigmoid=True, seed=None), network()
    assert not torch.equal(make(IMAGES, net), make(IMAGES, net))


def test_networks_without_dropout_are_refused() -> None:
    with pytest.raises(ValueError, match="network: expected at least one dropout layer with p > 0, got Sequential"):
        DropoutSamples(2)(IMAGES, network(dropout=0))
    with pytest.raises(TypeError, match=r"network: expected a torch\.nn\.Module, got function"):
        DropoutSamples(2)(IMAGES, lambda image: image)


def test_an_ensemble_is_each_network_by_itself(tmp_path: Path) -> None:
    files = saved(tmp_path)
    probs = CheckpointSamples(files, softmax=True, kind="probability")(IMAGES, network())
    for number, file in enumerate(files):
        one = network()
        one.load_state_dict(torch.load(file, weights_only=True))
        with torch.no_grad():
            assert torch.equal(probs[:, number], one(IMAGES).softmax(1))


def test_an_ensemble_reads_one_checkpoint_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    load = torch.load

    def loaded(path: str, **how: Any) -> Any:
        assert how["weights_only"] is True
        events.append("read")
        return load(path, **how)

    monkeypatch.setattr(torch, "load", loaded)
    net = network()
    net.register_forward_hook(lambda *_: events.append("run"))
    CheckpointSamples(saved(tmp_path), sigmoid=True)(IMAGES, net)
    assert events == ["read", "run"] * 3


def test_an_entry_of_a_checkpoint_is_named(tmp_path: Path) -> None:
    file = tmp_path / "all.pt"
    torch.save({"network": network().state_dict(), "epoch": 3}, file)
    samples = CheckpointSamples([file], key="network", sigmoid=True)(IMAGES, network())
    assert torch.equal(samples[:, 0], network()(IMAGES) > 0)
    with pytest.raises(
        ValueError, match=r"all\.pt: expected weights by name, got entries \['network', 'epoch'\]\. Fix: name the entry"
    ):
        CheckpointSamples([file])(IMAGES, network())
    with pytest.raises(ValueError, match=r"all\.pt: expected an entry 'net', got \['network', 'epoch'\]"):
        CheckpointSamples([file], key="net")(IMAGES, network())


class Run:
    """What a checkpoint must not do when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("ran",))


def test_unfit_checkpoints_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(content: Any, said: str) -> None:
        torch.save(content, tmp_path / "bad.pt")
        with pytest.raises(ValueError, match=said):
            CheckpointSamples([tmp_path / "bad.pt"])(IMAGES, network())

    refused(network(channels=5).state_dict(), r"bad\.pt: expected the weights of Sequential, got others, e\.g\. '3\.weight'")
    refused({"weight": torch.ones(1)}, r"bad\.pt: expected the weights of Sequential, got others")
    refused(Run(), r"bad\.pt: expected a file that torch\.load reads with weights_only=True")
    assert "ran" not in capsys.readouterr().out
    (tmp_path / "bad.pt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"bad\.pt: expected a file that torch\.load reads"):
        CheckpointSamples([tmp_path / "bad.pt"])(IMAGES, network())
    with pytest.raises(FileNotFoundError, match=r"none\.pt: expected a checkpoint, got no such file"):
        CheckpointSamples([tmp_path / "none.pt"])(IMAGES, network())
    with pytest.raises(ValueError, match="checkpoints: expected at least one file, got none"):
        CheckpointSamples([])


def test_the_network_behind_wrappers_is_found() -> None:
    net = network()
    assert unwrapped(torch.compile(nn.DataParallel(net))) is net


def test_raters_come_from_channels_heads_or_an_argument() -> None:
    logits = network(4)(IMAGES)  # two raters of two classes
    one, two = logits[:, :2].softmax(1), logits[:, 2:].softmax(1)
    expected = torch.stack([one, two], 1)
    make = RaterSamples(2, softmax=True, kind="probability")
    assert torch.equal(make(IMAGES, lambda image: logits), expected)
    assert torch.equal(make(IMAGES, lambda image: (logits[:, :2], logits[:, 2:])), expected)
    make = RaterSamples(2, SlidingWindowInferer((8, 8), sw_batch_size=2, overlap=0), argument="who", softmax=True, kind="probability")
    assert torch.allclose(make(IMAGES, lambda image, who: logits[:, 2 * who : 2 * who + 2]), expected)


def test_outputs_that_raters_cannot_share_are_refused() -> None:
    with pytest.raises(ValueError, match="expected a number of channels that 2 raters share, got 3"):
        RaterSamples(2)(IMAGES, lambda image: torch.ones(2, 3, 8, 8))
    with pytest.raises(ValueError, match="expected 2 outputs, one for each rater, got 3"):
        RaterSamples(2)(IMAGES, lambda image: (image,) * 3)
    with pytest.raises(TypeError, match=r"output of the network: expected a torch\.Tensor"):
        RaterSamples(1, argument="r")(IMAGES, lambda image, r: {"seg": image})


def test_a_decision_makes_the_mask() -> None:
    faint = torch.tensor([[[0.45, 0.4, 0.0]]])
    at_half = RaterSamples(1)(faint, lambda image: image)
    expected = RaterSamples(1, decide=DecideMask("expected_dice"))(faint, lambda image: image)
    assert (at_half.tolist(), expected.tolist()) == ([[[[False] * 3]]], [[[[True, True, False]]]])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: DropoutSamples(0), "samples: expected a whole number >= 1, got 0"),
        (lambda: DropoutSamples(True), "samples: expected a whole number"),
        (lambda: DrawnSamples(0), "samples: expected a whole number >= 1, got 0"),
        (lambda: RaterSamples(0), "raters: expected a whole number >= 1, got 0"),
        (lambda: RaterSamples(1, sigmoid=True, softmax=True), "sigmoid, softmax: expected at most one of them, got both"),
        (lambda: RaterSamples(1, kind="logit"), "kind: expected one of 'mask', 'probability'"),
        (lambda: RaterSamples(1, kind="probability", decide=DecideMask()), "decide: expected None with kind='probability'"),
    ],
)
def test_wrong_arguments_are_refused(make: Callable[[], SampleInferer], said: str) -> None:
    with pytest.raises((ValueError, TypeError), match=said):
        make()


def test_checkpoints_of_a_network_whose_modules_have_two_names(tmp_path: Path) -> None:
    """MONAI's DynUNet registers its blocks twice; a buffer that is not persistent stands in no checkpoint."""
    net = DynUNet(2, 1, 2, [3, 3, 3], [1, 2, 2], [2, 2]).eval()
    net.register_buffer("steps", torch.zeros(1), persistent=False)
    torch.save(net.state_dict(), tmp_path / "net.pt")
    images = torch.randn(1, 1, 16, 16)
    samples = CheckpointSamples([str(tmp_path / "net.pt")], sigmoid=True)(images, net)
    assert torch.equal(samples[:, 0], net(images) > 0)
