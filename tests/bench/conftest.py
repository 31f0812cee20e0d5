"""A problem small enough for every test."""

from __future__ import annotations

import pytest
from gattn.bench.graphs import GraphCase
from gattn.bench.layers import LAYERS
from gattn.bench.problem import Problem

TINY = GraphCase("tiny", "tiny", "rmat", 200, 1000, in_channels=6, heads=2, channels=4)


@pytest.fixture
def case() -> GraphCase:
    return TINY


@pytest.fixture(params=LAYERS)
def any_problem(request: pytest.FixtureRequest) -> Problem:
    """Of every layer in turn."""
    return Problem.build(TINY, request.param)


@pytest.fixture
def problem() -> Problem:
    return Problem.build(TINY)
