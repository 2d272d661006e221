"""The raters of phantoms: how one draws, and the exact probability that a rater of the population marks a voxel.

A case has latent fields phi, one for each structure: the signed evidence, in mm, that a voxel lies inside. A rater of style s marks

    {x : phi(x) + bias_s + sd_s * e(x) > 0}

with e a stationary Gaussian field of variance 1 that the rater shares over the structures, so that structures which are nested in
phi are nested in every drawing. With probability `miss_small` a rater does not see the second, small lesion, which then is left out
of phi. The marginal probability is therefore exact: `Phi((phi + bias) / sd)`, mixed over the miss and over the styles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monai_jdt.data.phantoms.fields import gaussian_field
from monai_jdt.validation import error_sentence


@dataclass(frozen=True)
class RaterStyle:
    """How a rater draws, in numbers.

    Args:
        name: one word for people.
        bias_mm: how far out (positive) or in (negative) the rater puts every boundary, in mm.
        sd_mm: standard deviation of the rater's boundary around that, in mm, positive.
        length_mm: correlation length of the deviations (the sd of the Gaussian that smooths white noise), in mm: small is jagged,
            large is smooth, 0 is white noise.
        miss_small: probability that the rater does not see a case's small lesion, in [0, 1].
        presence: probability that the rater draws a case at all, in (0, 1].

    Raises:
        ValueError: if a number is out of its range.
    """

    name: str
    bias_mm: float = 0.0
    sd_mm: float = 0.6
    length_mm: float = 2.5
    miss_small: float = 0.0
    presence: float = 1.0

    def __post_init__(self) -> None:
        for name, expected, legal, fix in (
            ("sd_mm", "a positive number of mm", self.sd_mm > 0, "pass 0.6"),
            ("length_mm", "0 or more mm", self.length_mm >= 0, "pass 2.5"),
            ("miss_small", "a probability in [0, 1]", 0 <= self.miss_small <= 1, "pass 0"),
            ("presence", "a probability in (0, 1]", 0 < self.presence <= 1, "leave it out, or leave out the style"),
        ):
            if not legal:
                raise ValueError(error_sentence(name, expected, repr(getattr(self, name)), fix))


#: Rater 4 is often absent, so that file numbers have gaps, as in real sets.
DEFAULT_STYLES: tuple[RaterStyle, ...] = (
    RaterStyle("over-segmenting", bias_mm=1.0, sd_mm=0.7, length_mm=3.0),
    RaterStyle("under-segmenting", bias_mm=-0.9, sd_mm=0.6, length_mm=3.0),
    RaterStyle("jagged", bias_mm=0.1, sd_mm=0.8, length_mm=1.0),
    RaterStyle("often absent", bias_mm=0.3, sd_mm=1.0, length_mm=2.5, presence=0.4),
    RaterStyle("smooth", bias_mm=0.2, sd_mm=0.8, length_mm=6.0),
    RaterStyle("misses small lesions", bias_mm=-0.2, sd_mm=0.5, length_mm=2.5, miss_small=0.8),
)


@dataclass(frozen=True)
class PhantomLatent:
    """The fields behind a case, from which raters are drawn.

    Args:
        phi: `(3, H, W, D)` float32, evidence in mm, channels TC, WT, ET, with every lesion. For other phantoms `(T, *S)`.
        phi_main: the same without the small lesion. The same array if there is none.
        spacing: voxel size in mm.
    """

    phi: np.ndarray
    phi_main: np.ndarray
    spacing: tuple[float, ...]


def draw_rater(latent: PhantomLatent, style: RaterStyle, rng: np.random.Generator) -> np.ndarray:
    """Draw what one rater of a style marks.

    Args:
        latent: the case's fields.
        style: the rater's style. `presence` is not used.
        rng: source of randomness. The number of draws does not depend on the style.

    Returns:
        `(3, H, W, D)` bool: TC, WT, ET, nested (ET in TC in WT).
    """
    missed = rng.random() < style.miss_small
    field = gaussian_field(rng, latent.phi.shape[1:], latent.spacing, style.length_mm)
    phi = latent.phi_main if missed else latent.phi
    return phi + (style.bias_mm + style.sd_mm * field) > 0


def rater_probability(latent: PhantomLatent, styles: Sequence[RaterStyle] = DEFAULT_STYLES) -> np.ndarray:
    """The probability that a rater drawn from the population marks a voxel.

    The population is the raters who hand in a drawing: a style's share is its `presence` over the sum of all. For a
    style, `P = (1 - miss_small) Phi((phi + bias) / sd) + miss_small Phi((phi_main + bias) / sd)` with the Gaussian cdf
    Phi.

    Args:
        latent: the case's fields.
        styles: the population.

    Returns:
        `(3, H, W, D)` float32 in [0, 1], TC <= WT and ET <= TC; multiples of 1e-6, so that values far from any boundary
        are 0 or 1 exactly.
    """
    import torch  # imported late: it takes seconds, and the data layer needs nothing else of it

    bias = np.array([style.bias_mm for style in styles])
    sd = np.array([style.sd_mm for style in styles])
    missing = np.array([style.miss_small for style in styles])
    share = np.array([style.presence for style in styles])
    share = share / share.sum()
    fields = [(latent.phi, share)]
    if latent.phi_main is not latent.phi:
        fields = [(latent.phi, share * (1 - missing)), (latent.phi_main, share * missing)]
    # Beyond 6 sd of the most extreme style the cdf is 0 or 1 to 1e-9, and values are rounded to 1e-6: it is computed in the shell
    # around the boundaries only.
    reach = float((np.abs(bias) + 6 * sd).max())
    truth = np.zeros(latent.phi.shape)
    for phi, weights in fields:
        shell = np.abs(phi) < reach
        scores = (phi[shell].astype(np.float64) + bias[:, None]) / sd[:, None]
        truth[shell] += (weights[:, None] * torch.special.ndtr(torch.from_numpy(scores)).numpy()).sum(0)
        truth[phi >= reach] += weights.sum()
    return np.clip(np.round(truth, 6), 0, 1).astype(np.float32)
