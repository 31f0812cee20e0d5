"""Generated graphs: sizes, determinism, skew, and honest names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gattn.bench import graphs
from gattn.bench.graphs import CASES, GraphCase

SMALL = GraphCase("r", "r", "rmat", 3000, 33_000)


@pytest.mark.parametrize("kind", ["uniform", "rmat"])
def test_has_the_promised_size_range_and_no_loops(kind: str) -> None:
    edges = graphs.generate(replace(SMALL, kind=kind))
    assert edges.shape == (2, 30_000)
    assert edges.min() >= 0
    assert edges.max() < 3000
    assert (edges[0] != edges[1]).all()


@pytest.mark.parametrize("kind", sorted(graphs.GENERATORS))
def test_seed_decides_everything(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GATTN_DATA", raising=False)
    case = replace(CASES["cora"], kind=kind)
    first = graphs.generate(case)
    np.testing.assert_array_equal(first, graphs.generate(case))
    assert (first != graphs.generate(replace(case, seed=1))).any()


def test_rmat_is_skewed_distinct_and_shuffled() -> None:
    edges = graphs.generate(SMALL)
    degree = np.sort(np.bincount(edges[1], minlength=3000))[::-1]
    assert degree[0] > 20 * degree.mean()
    assert degree[:30].sum() > 0.15 * degree.sum()  # one node in a hundred, one edge in six
    assert np.sort(np.bincount(graphs.generate(replace(SMALL, kind="uniform"))[1]))[-1] < 5 * degree.mean()
    assert len(np.unique(edges[0] * 3000 + edges[1])) == 30_000
    hubs = np.argsort(np.bincount(edges[1], minlength=3000))[-30:]
    assert hubs.max() > 1500  # unshuffled, hubs have the smallest numbers


def test_rmat_refuses_more_edges_than_it_can_draw() -> None:
    with pytest.raises(ValueError, match="at most an eighth of all pairs"):
        graphs.generate(replace(SMALL, num_nodes=100))


def test_index_type_is_the_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    assert graphs.load(replace(SMALL, index_dtype="int32")).dtype == torch.int32


def test_named_sizes_are_the_published_ones() -> None:
    for name in ("uniform", "rmat"):
        assert (CASES[name].num_nodes, CASES[name].given_edges) == (169_343, 1_166_243)
    assert (CASES["dense"].num_nodes, CASES["dense"].num_edges) == (20_000, 1_000_000)


def test_stand_in_for_cora_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GATTN_DATA", raising=False)
    assert "synthetic" in graphs.title(CASES["cora"])
    assert graphs.generate(CASES["cora"]).shape == (2, 10_556)


@pytest.mark.data
def test_cora_is_read_when_present() -> None:
    if graphs.cora_file() is None:
        pytest.skip("GATTN_DATA names no folder with planetoid/Cora/raw")
    edges = graphs.generate(CASES["cora"])
    assert graphs.title(CASES["cora"]) == "Cora"
    pairs = set(zip(*edges.tolist(), strict=True))
    assert len(pairs) == 10_556
    assert all((j, i) in pairs for i, j in pairs)


def test_large_graphs_are_generated_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GATTN_BENCH_CACHE", str(tmp_path))
    calls = []
    edges = np.array([[0, 1], [1, 0]], np.int32)
    monkeypatch.setattr(graphs, "generate", lambda case: calls.append(case) or edges)
    large = replace(SMALL, num_edges=10_000_000)
    for _ in range(2):
        np.testing.assert_array_equal(graphs.load(large).numpy(), edges)
    assert len(calls) == 1
