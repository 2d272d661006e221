"""Combinations of votes, against a dictionary of columns."""

from __future__ import annotations

import numpy as np
import pytest

from monai_jdt.raters.vote_patterns import vote_patterns


@pytest.mark.parametrize("count", [3, 60, 2100])
def test_combinations_are_those_of_a_dictionary(count: int) -> None:
    """2100 values of two raters are 4.4 million possible combinations, more than a table of them may have."""
    rng = np.random.default_rng(count)
    stack = np.stack([rng.permutation(count), rng.permutation(count)])[:, np.r_[:count, : count // 2]]
    patterns = vote_patterns(stack)
    columns = [tuple(column) for column in stack.T.tolist()]
    expected = sorted(set(columns))
    assert [tuple(row) for row in patterns.values[patterns.votes].tolist()] == expected
    assert patterns.index.tolist() == [expected.index(column) for column in columns]
    assert patterns.voxels.tolist() == [columns.count(column) for column in expected]
