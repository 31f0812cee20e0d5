"""Massive activations (Bini, Sorbi and Marchand-Maillet, *Characterizing massive activations of attention mechanism in
graph neural networks*, arXiv 2409.03463): :class:`MassiveActivations` finds them in any model.

Three tables extend it: :data:`EXAMINED`, what is examined of a score, :data:`WATCHED`, how a layer is seen whose
attention is no op of gattn's, and :data:`OWN`, what a layer means that has an op compute more than that.
"""

from gattn.analysis.massive.carriers import Carrier, Carriers
from gattn.analysis.massive.findings import Findings
from gattn.analysis.massive.fit import GammaFit, gamma_fit
from gattn.analysis.massive.own import OWN, Own
from gattn.analysis.massive.record import Record
from gattn.analysis.massive.recorder import TAPS, MassiveActivations
from gattn.analysis.massive.report import Layer, Report
from gattn.analysis.massive.watch import WATCHED
from gattn.observers import Attended
from gattn.reference.activations import EXAMINED

__all__ = [
    "EXAMINED",
    "OWN",
    "TAPS",
    "WATCHED",
    "Attended",
    "Carrier",
    "Carriers",
    "Findings",
    "GammaFit",
    "Layer",
    "MassiveActivations",
    "Own",
    "Record",
    "Report",
    "gamma_fit",
]
