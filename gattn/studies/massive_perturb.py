"""The perturbation test of the massive-activation study: noise on what a trained network's first layer gets.

What is perturbed is ``Network.embed(data)`` ``[N, channels]``: the embedded features or categories of the nodes plus
their embedded random-walk encodings. Features of edges and the graph stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric.utils import scatter

from gattn.analysis import MassiveActivations
from gattn.studies.massive_data import Task
from gattn.studies.massive_examine import THRESHOLD
from gattn.studies.massive_model import Network, judge

#: Standard deviations of the noise.
SCALES = (0.01, 0.0316, 0.1)
#: Of the gradient ascent, and the length of one against the norm of a graph's noise.
STEPS, LENGTH = 5, 0.5
NOISES = ("gaussian", "ascent")


def perturbed(model: Network, batches: Sequence[Any], task: Task, seed: int) -> dict[str, Any]:
    """Loss, metric and activations of a network in eval mode without noise, with Gaussian noise of every scale, and
    with noise of the same norm that gradient ascent has made worse, as lists of these in turn.

    The same directions are drawn for every scale, from ``seed`` and no other random stream.

    Returns:
        ``perturb_noise`` (``"none"`` or one of :data:`NOISES`), ``perturb_scale``, ``perturb_loss``,
        ``perturb_metric``, and lists of the layers: ``perturb_ratio``, the largest, and ``perturb_massive``, how many
        activations are massive.
    """
    model.eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        drawn = [torch.randn(model.embed(batch).shape, generator=generator) for batch in batches]
    rows: list[tuple[str, float, Sequence[Tensor | None]]] = [("none", 0.0, [None] * len(drawn))]
    for scale in SCALES:
        noises = [scale * noise for noise in drawn]
        rows.append(("gaussian", scale, noises))
        pairs = zip(batches, noises, strict=True)
        rows.append(("ascent", scale, [ascended(model, batch, task, noise) for batch, noise in pairs]))
    found: dict[str, Any] = {"perturb_noise": [row[0] for row in rows], "perturb_scale": [row[1] for row in rows]}
    measured = [_measured(model, batches, task, noises) for *_, noises in rows]
    return found | {name: [each[name] for each in measured] for name in measured[0]}


def ascended(model: Network, batch: Any, task: Task, noise: Tensor) -> Tensor:
    """What gradient ascent on the loss makes of ``noise`` ``[N, channels]``, with every graph's norm as it was.

    Each of :data:`STEPS` steps goes along a graph's gradient by :data:`LENGTH` times its norm, and back onto the
    sphere; of the start and all steps, that with the largest loss of the batch."""
    norm = _norms(noise, batch)
    best, most = noise, -torch.inf
    for step in range(STEPS + 1):
        noise = noise.detach().requires_grad_()
        loss = task.each(model(batch, noise), batch.y).sum()
        if loss.item() > most:
            best, most = noise.detach(), loss.item()
        if step < STEPS:
            (gradient,) = torch.autograd.grad(loss, noise)
            further = noise.detach() + LENGTH * norm * _unit(gradient, batch)
            noise = norm * _unit(further, batch)
    return best


def _norms(x: Tensor, batch: Any) -> Tensor:
    """``[N, 1]``, the norm of the rows of every node's graph together."""
    square: Tensor = scatter(x.square().sum(1), batch.batch, dim_size=batch.num_graphs, reduce="sum")
    return square.sqrt()[batch.batch].unsqueeze(1)


def _unit(x: Tensor, batch: Any) -> Tensor:
    """Every graph's rows divided by their norm; zeros stay, as of a graph whose labels are all missing."""
    return x / _norms(x, batch).clamp(min=torch.finfo(x.dtype).tiny)


def _measured(model: Network, batches: Sequence[Any], task: Task, noises: Sequence[Tensor | None]) -> dict[str, Any]:
    with MassiveActivations(model, threshold=THRESHOLD) as watching:
        judged = judge(model, batches, task, noises)
    layers = list(watching.report().layers.values())
    return {
        "perturb_loss": judged.loss,
        "perturb_metric": judged.metric,
        "perturb_ratio": [float(layer.maxima[0]) if len(layer.maxima) else float("nan") for layer in layers],
        "perturb_massive": [int(layer.stats.above[THRESHOLD]) if layer.stats else 0 for layer in layers],
    }
