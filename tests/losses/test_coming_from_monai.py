"""The page docs/coming_from_monai.md says what is so: every row of its tables is tried, and every loss of MONAI has its place."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import monai.losses
import pytest
import torch

import monai_jdt.losses
from tests.present import present
from tests.versions import needs_monai

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "coming_from_monai.md").read_text()
EXCHANGED = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \| (\w+) \| (.*)\|$", PAGE, re.MULTILINE)
#: What older versions of MONAI compute otherwise, by the beginning of a row.
SINCE_1_6 = {
    "MaskedDiceLoss(": needs_monai("1.6", "a MaskedDiceLoss that masks predictions; before, it multiplied logits by the mask"),
    "SoftDiceclDiceLoss(": needs_monai("1.6", "`sigmoid` of SoftDiceclDiceLoss"),
}
REFUSED = re.findall(r"^\| `([^`]+)` \| (\d) \| (TypeError|ValueError) \| .+\|$", PAGE, re.MULTILINE)

torch.manual_seed(0)
LOGITS = torch.randn(2, 3, 4, 6, dtype=torch.float64)
INDEX = torch.randint(0, 3, (2, 1, 4, 6))
CHANNELS = torch.randint(0, 2, (2, 3, 4, 6)).double()
MASK = torch.rand(2, 1, 4, 6) < 0.6
HALF = torch.randn(2, 3, 2, 3, dtype=torch.float64)


class Names(dict):
    """The losses of both packages, as the page writes them; the sum of weighted losses is one loss."""

    def __init__(self) -> None:
        super().__init__(torch=torch)
        for module in (monai.losses, monai_jdt.losses):
            self.update({name: each for name, each in vars(module).items() if inspect.isclass(each)})


def built(call: str) -> Callable[..., torch.Tensor]:
    """The loss of a call such as `0.7 * A() + 0.3 * B()`, as a function of its arguments."""
    terms = [re.fullmatch(r"(?:([\d.]+) \* )?(.+)", term) for term in call.split(" + ")]
    losses = [(float(term[1] or 1), eval(term[2], Names())) for term in terms if term]
    return lambda *arguments: torch.stack([factor * loss(*arguments) for factor, loss in losses]).sum(0)


def outcome(call: str, theirs: str, heads: list[torch.Tensor] | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Value and gradient on the hard label that MONAI's call asks for."""
    indices, activated = "to_onehot_y" in call, re.search("sigmoid|softmax|Focal", theirs)
    x = (LOGITS if activated else LOGITS.sigmoid()).clone().requires_grad_()
    target = INDEX if indices else CHANNELS
    mask = (MASK if "Masked" not in call else MASK.double(),) if "Masked" in theirs else ()
    value = built(call)([x, *heads] if heads is not None else x, target, *mask)
    value.backward()
    return value.detach(), present(x.grad)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("theirs", "ours", "relation", "change"),
    [pytest.param(*row, id=row[0], marks=[m for start, m in SINCE_1_6.items() if row[0].startswith(start)]) for row in EXCHANGED],
)
def test_exchanged(theirs: str, ours: str, relation: str, change: str) -> None:
    heads = [HALF] if "DeepSupervision" in theirs else None
    expected, got = outcome(theirs, theirs, heads), outcome(ours, theirs, heads)
    assert relation in ("equal", "differ")
    if relation == "equal":
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-8, check_dtype=False)  # MONAI's focal term is float32
    else:
        assert change.strip()
        assert abs(got[0] - expected[0]) > 1e-3


@pytest.mark.parametrize(("call", "channels", "error"), REFUSED, ids=[row[0] for row in REFUSED])
def test_refused(call: str, channels: str, error: str) -> None:
    x = LOGITS[:, : int(channels)]
    target = INDEX if "to_onehot_y" in call else CHANNELS[:, : int(channels)]
    with pytest.raises({"TypeError": TypeError, "ValueError": ValueError}[error]):
        built(call)(x, target)


def test_the_tables_are_read() -> None:
    assert len(EXCHANGED) >= 20
    assert len(REFUSED) >= 15
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    assert len(rows) == len(EXCHANGED) + len(REFUSED) + 5  # the last: no counterpart


@needs_monai("1.6", "all losses that the page names")
def test_every_loss_of_monai_has_its_place() -> None:
    modules = [importlib.import_module(f"monai.losses.{m.name}") for m in pkgutil.iter_modules(monai.losses.__path__)]
    classes = {c for module in modules for c in vars(module).values() if inspect.isclass(c) and c.__module__ == module.__name__}
    names = {c.__name__ for c in classes if issubclass(c, torch.nn.Module) and c.__name__.endswith("Loss")}
    assert {"DiceLoss", "AsymmetricFocalTverskyLoss"} <= names
    told = set(re.findall(r"`(\w+)[`(]", PAGE))
    assert not names - told
    assert not {name for name in told if name.endswith("Loss")} - names - set(monai_jdt.losses.__all__)
    overlap = {n for n in names if re.search("Dice|Tversky|Masked|DeepSupervision|Unified", n)}
    no_counterpart = set(re.findall(r"`(\w+)`", PAGE.partition("## No counterpart")[2].partition("## What is refused")[0]))
    assert overlap - {row[0].partition("(")[0] for row in EXCHANGED} <= no_counterpart


def test_the_rows_that_say_more_than_their_call() -> None:
    """One channel of DiceCELoss, and heads of the label's size."""
    ours = "JDTCELoss(sigmoid=True, alpha=0.5, beta=0.5, lambda_jdt=1, lambda_ce=1, smooth_nr=5e-6, smooth_dr=5e-6)"
    x, t = LOGITS[:, :1], CHANNELS[:, :1]
    torch.testing.assert_close(built(ours)(x, t), built("DiceCELoss(sigmoid=True)")(x, t))
    heads = [LOGITS, LOGITS.flip(0)]
    torch.testing.assert_close(
        built("SoftDeepSupervisionLoss(DiceSemimetricLoss(sigmoid=True))")(heads, CHANNELS),
        built("DeepSupervisionLoss(DiceLoss(sigmoid=True))")(heads, CHANNELS),
        rtol=1e-6,
        atol=0,
        check_dtype=False,
    )


@SINCE_1_6["MaskedDiceLoss("]
def test_a_pair_that_counts_no_voxel_is_left_out_of_our_mean_alone() -> None:
    mask = torch.ones(2, 1, 4, 6)
    mask[1] = 0
    masked = built("MaskedDiceLoss(sigmoid=True)")(LOGITS, CHANNELS, mask)
    half = built("DiceSemimetricLoss(sigmoid=True)")(LOGITS, CHANNELS, mask) / 2
    torch.testing.assert_close(masked, half, rtol=1e-6, atol=0, check_dtype=False)


FOCAL = monai_jdt.losses.JDTFocalLoss


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ({"gamma": 2}, ["gamma=2 is the exponent of the JDT term", "focal_gamma=2"]),
        ({"alpha": 0.25}, ["alpha=0.25 is the cost of false positives", "focal_alpha=0.25"]),
        ({"gamma": 2.0, "alpha": 0.25}, ["focal_gamma=2.0", "focal_alpha=0.25"]),
        ({"gamma": 2, "alpha": 0.3, "beta": 0.7}, ["focal_gamma=2"]),
        ({"alpha": 0.25, "focal_gamma": 2.0}, ["focal_alpha=0.25"]),
    ],
)
def test_focal_names_of_monai_are_warned_of(named: dict[str, Any], told: list[str]) -> None:
    with pytest.warns(UserWarning, match="^JDTFocalLoss: ") as caught:
        loss = FOCAL(sigmoid=True, **named)
    (warning,) = caught
    assert all(part in str(warning.message) for part in told)
    assert warning.filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss(LOGITS, CHANNELS)


@pytest.mark.parametrize(
    "named",
    [
        {},
        {"focal_gamma": 2.0, "focal_alpha": 0.25},
        {"alpha": 0.3, "beta": 0.7},
        {"gamma": 1.5, "focal_gamma": 2.0},
        {"alpha": 1.0, "focal_alpha": 0.25},
        monai_jdt.losses.loss_for_metric("mDice", average="image"),
    ],
)
def test_what_is_clear_is_not_warned_of(named: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert FOCAL(sigmoid=True, **named).recipe.lambda_pixel == 0.25
