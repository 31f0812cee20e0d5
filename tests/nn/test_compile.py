"""The layers inside compiled programs: one graph, whatever the sizes."""

from __future__ import annotations

import pytest
import torch

pytestmark = pytest.mark.usefixtures("fused_only")


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def graph(num_nodes, num_edges):
    generator = torch.Generator().manual_seed(num_edges)
    x = torch.randn(num_nodes, 5, generator=generator, dtype=torch.float64)
    edge_attr = torch.randn(num_edges, 3, generator=generator, dtype=torch.float64)
    return x, torch.randint(num_nodes, (2, num_edges), generator=generator), edge_attr


def gradients(module, *args):
    out = module(*args)
    return [out, *torch.autograd.grad(out.square().sum(), list(module.parameters()))]


@pytest.mark.slow
def test_one_program_for_all_sizes(classes, make_net):
    net = make_net(classes[1], edge_dim=3)
    compiled = torch.compile(net, fullgraph=True, dynamic=True, backend="aot_eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for num_nodes, num_edges in ((9, 30), (12, 41), (7, 20)):
            args = graph(num_nodes, num_edges)
            torch.testing.assert_close(gradients(compiled, *args), gradients(net, *args))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gat", "transformer"])
def test_norm_and_attention(classes, kind):
    layer = classes[1](5, 4, heads=2, norm="lipschitz").double()
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend="eager")
    x, edge_index, _ = graph(9, 30)
    got, expected = (run(x, edge_index, return_attention_weights=True) for run in (compiled, layer))
    torch.testing.assert_close(got, expected)


@pytest.mark.slow
def test_dropout_follows_torch_seed(classes):
    layer = classes[1](5, 4, heads=2, dropout=0.5).double()
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend="eager")
    x, edge_index, _ = graph(9, 30)
    outs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outs.append(compiled(x, edge_index))
    torch.testing.assert_close(outs[0], outs[1], rtol=0, atol=0)
    assert not torch.equal(outs[0], outs[2])
