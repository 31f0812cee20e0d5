"""What the papers say about attention over graphs, as functions of a layer's tensors."""

from gattn.activations import ActivationStats
from gattn.analysis.conservation import Conservation, conservation, conserved, rebalance_
from gattn.analysis.gatv2 import GATv2Gradients, gatv2_gradients
from gattn.analysis.massive import MassiveActivations
from gattn.analysis.monitor import ConservationMonitor

__all__ = [
    "ActivationStats",
    "Conservation",
    "ConservationMonitor",
    "GATv2Gradients",
    "MassiveActivations",
    "conservation",
    "conserved",
    "gatv2_gradients",
    "rebalance_",
]
