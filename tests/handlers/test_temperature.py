"""The temperature is that of `fit_temperature` on all cases of an evaluator, of different sizes and by any number of processes."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
import torch
from ignite.engine import Engine

import monai_jdt.handlers.temperature
from monai_jdt.functional.temperature import fit_temperature
from monai_jdt.handlers import TemperatureSearch


def items(softmax: bool) -> list[dict[str, torch.Tensor]]:
    """Three cases whose logits are 1.6 times too large, and their raters' mean."""
    generator, made = torch.Generator().manual_seed(0), []
    for size in (300, 500, 1000):
        logits = 2 * torch.randn(2, size, generator=generator)
        prob = logits.softmax(0)[1:] if softmax else logits.sigmoid()
        label = torch.stack([torch.rand(prob.shape, generator=generator) < prob for _ in range(3)]).double().mean(0)
        made.append({"logits": 1.6 * logits, "average": label})
    return made


def searched(search: TemperatureSearch, cases: list[dict[str, torch.Tensor]]) -> float | None:
    def step(engine: Engine, one: Any) -> list[dict[str, Any]]:
        engine.state.batch = [{}]  # type: ignore[assignment]
        return [one]

    engine = Engine(step)
    search.attach(engine)
    for _ in range(2):  # a second run starts anew
        engine.run(cases)
    return search.temperature


@pytest.mark.parametrize("softmax", [False, True])
def test_the_best_temperature_is_logged(softmax: bool, caplog: Any, monkeypatch: Any) -> None:
    cases = items(softmax)
    logits, label = (torch.cat([case[key] for case in cases], 1)[None].float() for key in ("logits", "average"))
    expected = fit_temperature(logits, torch.cat([1 - label, label], 1) if softmax else label, softmax=softmax)
    assert 1.4 < expected < 1.8
    search = TemperatureSearch(softmax)
    with caplog.at_level(logging.INFO, logger="monai_jdt"):
        assert searched(search, cases) == pytest.approx(expected, rel=2e-3)
    line = f"temperature {search.temperature:.3g} makes the raters' votes on these 3 cases most probable"
    assert caplog.messages[-1] == line
    # two ranks with two cases and one, and one rank without
    sent: list[str] = []

    def alone(text: list[str]) -> list[str]:
        sent.extend(text)
        return text

    monkeypatch.setattr(monai_jdt.handlers.temperature, "string_list_all_gather", alone)
    for part in (cases[:2], cases[2:]):
        search = TemperatureSearch(softmax)
        searched(search, part)
    assert [json.loads(text)[0] for text in sent] == [2, 2, 1, 1]
    monkeypatch.setattr(monai_jdt.handlers.temperature, "string_list_all_gather", lambda text: [*sent[1:3], *text])
    idle = TemperatureSearch(softmax)
    idle(Engine(lambda *_: None))
    assert idle.temperature == pytest.approx(expected, rel=2e-3)


def test_a_case_with_an_infinite_logit_is_left_out(caplog: Any) -> None:
    """As half precision makes one; the evaluation goes on."""
    cases = items(False)
    broken = {key: value.clone() for key, value in cases[0].items()}
    broken["logits"].view(-1)[0] = torch.inf
    search = TemperatureSearch()
    expected = searched(search, cases)
    assert searched(search, [broken, *cases]) == expected
    assert "a logit of it is NaN or infinite" in caplog.text
