"""Draws of the network, such as dropout's, that follow from the seed and the step alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from monai.utils import optional_import

from monai_jdt.training.draws import draw_seed, ranks_here, seed_everything

if TYPE_CHECKING:
    from ignite.engine import Engine

_Events, _ = optional_import("ignite.engine", name="Events")


class StepSeed:
    """Seed the generators of Python, NumPy and PyTorch before each step of a trainer or evaluator, by seed, epoch, step and rank.

    The draws of a step are then the same whatever has drawn before: a training that goes on after a kill starts its loaders anew, and
    a new loader draws once from PyTorch's generator. Ranks draw differently.

    Args:
        seed: >= 0.

    Example:
        >>> StepSeed(seed=0).attach(trainer)  # doctest: +SKIP
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def attach(self, engine: Engine) -> None:
        """Seed at the start of each iteration of the engine."""
        engine.add_event_handler(_Events.ITERATION_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Seed for the engine's iteration."""
        seed_everything(draw_seed(self.seed, engine.state.epoch, engine.state.iteration, ranks_here()[0]))
