"""Components of a config before they are built."""

from __future__ import annotations

from typing import Any

import pytest
from monai.bundle.config_item import ComponentLocator

from monai_jdt.bundle_runtime.components import component_problems

LOCATOR = ComponentLocator()


def problems(config: dict[str, Any]) -> list[str]:
    return list(component_problems(config, LOCATOR))


def test_a_disabled_component_may_be_absent() -> None:
    absent = {"_target_": "no_package.Handler"}
    (line,) = problems({"handler": absent})
    assert line.startswith("handler#_target_: expected a class or function that can be imported")
    assert problems({"handler": {**absent, "_disabled_": True, "inner": absent}}) == []
    # whether it is built is known when the expression is computed
    assert problems({"handler": {**absent, "_disabled_": "$@rank > 0"}}) == []


def test_the_arguments_of_a_component_that_may_be_disabled_are_checked() -> None:
    (line,) = problems({"saver": {"_target_": "monai.handlers.CheckpointSaver", "_disabled_": "$@rank > 0", "save_dirr": "."}})
    assert line.startswith("saver#save_dirr: expected an argument of CheckpointSaver")


@pytest.mark.parametrize(
    ("target", "argument", "value", "expected"),
    [
        ("monai.engines.SupervisedTrainer", "max_epochs", "x", "a whole number, as SupervisedTrainer declares it"),
        ("monai_jdt.losses.JDTCELoss", "lambda_ce", "1e-3", "a number, as JDTCELoss declares it"),
    ],
)
def test_text_for_a_number_is_one_line(target: str, argument: str, value: str, expected: str) -> None:
    (line,) = problems({"it": {"_target_": target, argument: value}})
    assert line.startswith(f"it#{argument}: expected {expected}, got {value!r}. Fix: write a ")
    assert problems({"it": {"_target_": target, argument: 1}}) == []
    assert problems({"it": {"_target_": target, argument: "@epochs"}}) == []
