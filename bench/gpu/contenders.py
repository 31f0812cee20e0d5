"""The layers side by side on the device: gattn's, PyTorch Geometric's, and that under ``torch.compile``."""

from __future__ import annotations

from collections.abc import Callable

import torch
from gattn.bench.gpu.problems import Chosen
from gattn.bench.gpu.task import Context
from gattn.bench.peers import Contender
from gattn.bench.peers.fused import CLASSES as FUSED
from gattn.bench.peers.pyg import CLASSES as PYG
from gattn.bench.peers.pyg import layer_contender, pyg_style
from gattn.bench.problem import Problem

Maker = Callable[[Problem], Contender]


def _module(cls: Callable[..., torch.nn.Module], problem: Problem) -> torch.nn.Module:
    return pyg_style(cls, problem).to(problem.x.device, problem.x.dtype)


def _gattn(problem: Problem) -> Contender:
    from gattn import nn

    module = _module(getattr(nn, FUSED[problem.layer.name]), problem)
    return layer_contender(module, module, *problem.given, problem)


def _eager(problem: Problem) -> Contender:
    from torch_geometric import nn

    module = _module(getattr(nn, PYG[problem.layer.name]), problem)
    return layer_contender(module, module, *problem.given, problem)


def _compiled(problem: Problem) -> Contender:
    from torch_geometric import nn

    torch._dynamo.reset()  # else another graph's sizes make shapes dynamic, which is slower
    module = _module(getattr(nn, PYG[problem.layer.name]), problem)
    return layer_contender(module, torch.compile(module), *problem.given, problem)


TITLES = {"gattn": "gattn", "pyg": "PyG eager", "pyg-compile": "PyG torch.compile"}
#: Compiling takes up to a minute: for one graph of each size, the layers other than GAT's for one only.
COMPILED = ("cora-uniform", "pubmed-uniform", "arxiv-rmat", "reddit-rmat", "products-rmat")


def makers(chosen: Chosen, context: Context) -> dict[str, Maker]:
    """Contenders by name, gattn first."""
    found: dict[str, Maker] = {"gattn": _gattn, "pyg": _eager}
    compiles = chosen.graph in COMPILED and (chosen.layer == "gat" or chosen.graph == "arxiv-rmat")
    if compiles and not context.dry:  # in a dry run Triton interprets, which torch.compile does not expect
        found["pyg-compile"] = _compiled
    return found
