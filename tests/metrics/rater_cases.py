"""Random predictions and votes with everything that a metric has to live with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

REGIONS = [[1, 4], [1, 2, 4], [4]]


@dataclass(frozen=True)
class RaterCase:
    """Two images: probabilities, binary samples, votes, weights, and how the votes are read."""

    prob: torch.Tensor
    samples: torch.Tensor
    votes: torch.Tensor
    weights: torch.Tensor | None
    regions: list[list[int]] | None
    ignored: int | None

    @property
    def groups(self) -> list[tuple[int, ...]]:
        """The label values of each channel."""
        channels = self.prob.shape[1]
        if self.regions is not None:
            return [tuple(group) for group in self.regions]
        return [(1,)] if channels == 1 else [(c,) for c in range(channels)]

    def weights_of(self, image: int) -> list[float]:
        """One weight for each rater."""
        return [1.0] * self.votes.shape[1] if self.weights is None else self.weights[image].tolist()

    def image(self, image: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`p (C, V)`, samples `(M, C, V)` and votes `(R, V)` of an image as numpy arrays."""
        return (
            self.prob[image].double().flatten(1).numpy(),
            self.samples[image].flatten(2).numpy(),
            self.votes[image].flatten(1).numpy(),
        )


#: Binary, classes and regions; with and without silence, weights, and missing raters; classes that nobody marks; 1D to 3D.
KINDS = [
    "binary",
    "binary silent",
    "classes",
    "classes silent",
    "regions",
    "regions silent",
    "one rater",
    "identical",
    "empty",
    "binary ignored",
    "classes absent",
    "regions absent",
    "classes one rater",
    "regions identical",
]


def rater_case(kind: str, seed: int = 0, equal: bool = False) -> RaterCase:
    """A case of a kind; `equal` gives all raters that are there the same weight."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    shape = [(11,), (4, 3), (2, 3, 2)][(seed + KINDS.index(kind)) % 3]
    what = kind.split()[0]
    channels = {"classes": 3, "regions": 3}.get(what, 1)
    values = {"classes": [0, 1, 2], "regions": [0, 1, 2, 4]}.get(what, [0, 1])
    raters = 1 if "one rater" in kind else 4
    votes = rng.choice(values, size=(2, raters, *shape))
    if "absent" in kind:
        votes[votes == values[-1]] = 0  # the last class, or the innermost region
    if "identical" in kind:
        votes[:] = votes[:, :1]
    if kind == "empty":
        votes[:] = 0
    ignored = None
    if "ignored" in kind:
        ignored = 7
        votes[:] = 7
    if "silent" in kind:
        ignored = 7
        votes[rng.random(votes.shape) < 0.25] = 7
        votes[0, 1] = 7  # says nothing anywhere
        votes[1, :, ..., 0] = 7  # a place where nobody speaks
    weights = None
    if raters > 1 and seed % 2:
        weights = torch.from_numpy(np.ones((2, raters)) if equal else rng.random((2, raters)) + 0.1)
        weights[:, 2] = 0  # missing
    if what == "classes":
        prob = np.moveaxis(rng.dirichlet([0.5] * 3, size=(2, *shape)), -1, 1)
    else:  # some of them certain
        prob = rng.random((2, channels, *shape))
        prob = np.where(rng.random(prob.shape) < 0.1, np.round(prob), prob)
    samples = rng.random((2, 3, channels, *shape)) < 0.5
    if kind == "empty":
        samples[0] = False
    if "absent" in kind:
        samples[:, :, -1] = False
    return RaterCase(
        torch.from_numpy(prob.astype(np.float32)),
        torch.from_numpy(samples),
        torch.from_numpy(votes.astype(np.int16)),
        weights,
        REGIONS if what == "regions" else None,
        ignored,
    )
