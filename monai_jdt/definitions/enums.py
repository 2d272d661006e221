"""The decisions of the package that have a name, one enum each."""

from __future__ import annotations

from enum import Enum


class Activation(Enum):
    """How logits become predictions in [0, 1]."""

    NONE = "none"
    SIGMOID = "sigmoid"
    SOFTMAX = "softmax"
    OTHER = "other_act"


class LabelForm(Enum):
    """How a label is written down: `(N, C, *S)` values, `(N, 1, *S)` class indices, or `(N, R, *S)` votes of R raters."""

    DENSE = "dense"
    INDEX = "index"
    VOTES = "votes"


class ActiveClasses(Enum):
    """Which (image, class) pairs take part in the mean."""

    ALL = "all"
    LABEL = "label"
    PREDICTION = "prob"
    EITHER = "both"
    LISTED = "listed"
    POOLED = "pooled"


class PixelTerm(Enum):
    """What is summed over voxels beside the overlap: cross-entropy, focal loss, or the divergence from the label."""

    CROSS_ENTROPY = "ce"
    FOCAL = "focal"
    DIVERGENCE = "kl"


class Backend(Enum):
    """Which kernel sums over the voxels."""

    AUTO = "auto"
    EAGER = "eager"
    NUMPY = "numpy"
    CHUNKED = "chunked"
    NUMBA = "numba"
    TRITON = "triton"
