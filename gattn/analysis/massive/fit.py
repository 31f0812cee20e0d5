"""A gamma distribution for ``-log10(ratio)``, by maximum likelihood."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]

#: How far below the smallest number the distribution may begin, in standard deviations; beyond, gamma is normal.
_NEAREST, _FARTHEST = 1e-6, 1e3
#: Numbers without which there is nothing to fit.
_LEAST = 8


@dataclass(frozen=True)
class GammaFit:
    """``scipy.stats.gamma(shape, loc, scale)``, fitted to ``count`` numbers.

    Attributes:
        statistic: Kolmogorov and Smirnov's: the largest distance between the two cumulative distributions.
        likelihood: Mean log-likelihood of a number.
    """

    shape: float
    loc: float
    scale: float
    statistic: float
    likelihood: float
    count: int

    def density(self, x: Numbers) -> Numbers:
        """Of the fitted distribution."""
        found: Numbers = _scipy("stats").gamma.pdf(x, self.shape, self.loc, self.scale)
        return found

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def _scipy(part: str) -> Any:
    try:
        import scipy.optimize
        import scipy.stats
    except ImportError as error:
        raise ImportError(f"The gamma fit needs scipy ({error}): pip install scipy, or gattn[train]") from error
    return getattr(scipy, part)


def gamma_fit(x: Numbers) -> GammaFit | None:
    """The gamma distribution with the largest likelihood for ``x`` ``[n]``, finite; ``None`` for fewer than eight
    numbers or equal ones, which have none.

    Given where it begins, scipy finds shape and scale, which have one solution, so only the beginning is searched for.
    It stays below the smallest number by 1e-6 standard deviations at least, where the likelihood of shapes below 1
    would grow without bounds, and 1000 at the most, where the distribution is a normal one.
    """
    spread = float(x.std()) if len(x) else 0.0
    if len(x) < _LEAST or spread <= 1e-12 * max(1.0, float(np.abs(x).max())):
        return None
    stats, optimize = _scipy("stats"), _scipy("optimize")
    least = float(x.min())

    def at(exponent: float) -> tuple[float, float, float]:
        shape, loc, scale = stats.gamma.fit(x, floc=least - spread * math.exp(exponent))
        return float(shape), float(loc), float(scale)

    def cost(exponent: float) -> float:
        return float(stats.gamma.nnlf(at(exponent), x))

    # A coarse look first: there may be a local maximum beside the one at the bound.
    grid = np.linspace(math.log(_NEAREST), math.log(_FARTHEST), 25)
    costs = [cost(exponent) for exponent in grid]
    best = int(np.argmin(costs))
    bounds = grid[max(0, best - 1)], grid[min(len(grid) - 1, best + 1)]
    found = optimize.minimize_scalar(cost, bounds=bounds, method="bounded", options={"xatol": 1e-9})
    parameters = at(found.x)
    statistic = float(stats.kstest(x, "gamma", args=parameters).statistic)
    return GammaFit(*parameters, statistic, -float(stats.gamma.nnlf(parameters, x)) / len(x), len(x))
