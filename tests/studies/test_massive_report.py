"""What the massive study says in words, made from numbers."""

from __future__ import annotations

from typing import Any

import pytest

from gattn.studies.massive_report import by_seed
from gattn.studies.massive_words import answer, carriers, exceeding, overall


def result(own: list[float | None], base: list[float], **more: Any) -> dict[str, Any]:
    kinds = {"types": [], "type_edges": [], "type_carrying": []}
    return {"term": "none", "largest_ratio": own, "base_ratio": base, **kinds, **more}


def test_layers_are_told_apart() -> None:
    assert exceeding(result([1001, 2000, 1000, 5, None], [1000, 1500, 1001, 6, 7])) == [
        "trained alone",
        "both",
        "untrained alone",
        "neither",
        "neither",
    ]


@pytest.mark.parametrize(
    ("own", "base", "words"),
    [
        (
            [10, 1200, 50_000, 3000, 1500, 9],
            [5, 100, 500, 100, 2000, 5000],
            "No bias term: layers 2 to 4 of 6 exceed 1000 where untrained copies stay below, most of all layer 3 with "
            "50,000, 100 times the 500 of the untrained copies. Layer 5 exceeds it, but so do untrained copies. In "
            "layer 6 untrained copies alone exceed it.",
        ),
        (
            [2000, 10, 3000, 4000],
            [100, 10, 100, 100],
            "No bias term: layers 1, 3 and 4 of 4 exceed 1000 where untrained copies stay below, most of all layer 4 "
            "with 4,000, 40 times the 100 of the untrained copies.",
        ),
        (
            [None, 30.0],
            [10, 60],
            "No bias term: no layer exceeds 1000; the largest ratio is that of layer 2, 30, 0.5 times the 60 of the "
            "untrained copies.",
        ),
        ([None, None], [10, 60], "No bias term: no layer has an edge whose ratio is finite."),
        (
            [1500, 20],
            [2000, 10],
            "No bias term: no layer exceeds 1000 where untrained copies stay below. Layer 1 exceeds it, but so do "
            "untrained copies.",
        ),
    ],
)
def test_the_answer(own: list[float | None], base: list[float], words: str) -> None:
    assert answer(result(own, base)) == words


def test_which_edges_carry_them() -> None:
    """In the layers that exceed the threshold alone."""
    kinds = {
        "types": ["single", "triple", "aromatic"],
        "type_edges": [[60, 60], [10, 10], [30, 30]],
        "type_carrying": [[9, 1], [8, 0], [0, 3]],
    }
    one = result([10, 5000], [10, 100], **kinds)
    assert carriers(one, [0]) == "single 52.9 %, triple 47.1 %"
    assert answer(one).endswith(
        "Edges that carry massive activations there, by type: aromatic 75 %, single 25 %; of all edges single 60 %, "
        "aromatic 30 %, triple 10 %."
    )
    assert "carry" not in answer(result([10, 50], [10, 100], **kinds))


def test_bias_terms_are_compared() -> None:
    """Over seeds: layers together, activations as a mean."""
    runs = [
        result([5000, 2000], [10, 10], massive=[10, 4], base_massive=[0, 1]),
        result([5000, 20], [10, 10], massive=[1000, 0], base_massive=[0, 0]),
        result([50, 20], [10, 10], massive=[0, 0], base_massive=[3, 0], term="edge_bias"),
    ]
    assert overall(runs) == (
        "no bias term 3 of 4 layers, 507 massive activations (untrained 0); edge bias 0 of 2 layers, 0 massive "
        "activations (untrained 3)"
    )


def test_seeds_stand_side_by_side() -> None:
    """A seed whose run has not finished has a dash; layers count where the trained network alone is above."""
    runs = [
        result([5000, 2000, None], [10, 3000, 7], seed=1),
        result([900, 20, 30], [12, 10, 7], seed=0),
        result([50, 1001, 20], [10, 20, 10], seed=1, term="edge_bias"),
    ]
    table = by_seed(runs)
    assert table.header == ["largest ratio", "seed 0", "seed 1", "base, all seeds", "exceeds 1000 alone"]
    assert table.rows == [
        ["no bias term, layer 1", "900", "5,000", "12", "1 of 2"],
        ["no bias term, layer 2", "20", "2,000", "3,000", "0 of 2"],
        ["no bias term, layer 3", "30", "–", "7", "0 of 2"],
        ["edge bias, layer 1", "–", "50", "10", "0 of 1"],
        ["edge bias, layer 2", "–", "1,001", "20", "1 of 1"],
        ["edge bias, layer 3", "–", "20", "10", "0 of 1"],
    ]
