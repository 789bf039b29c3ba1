"""Linear and integer programs, solved by HiGHS in one thread: the same program always gives the same answer."""

from collections.abc import Mapping
from dataclasses import dataclass

import highspy
import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Solution:
    """`values` of the variables and the dual `prices` of the rows, in the order in which they were added.

    Where the rows contradict each other it is not `feasible`, and the figures mean nothing. Whole variables leave no
    prices.
    """

    values: _Floats
    prices: _Floats
    feasible: bool = True


class LinearProgram:
    """Minimise the cost of variables, each within its ends, subject to rows with ends of their own."""

    def __init__(self) -> None:
        self._costs: list[float] = []
        self._ends: list[tuple[float, float]] = []
        self._rows: list[Mapping[int, float]] = []
        self._row_ends: list[tuple[float, float]] = []
        self._whole: list[bool] = []

    def add_variable(
        self, cost: float = 0.0, least: float = 0.0, most: float = highspy.kHighsInf, *, whole: bool = False
    ) -> int:
        """The index of the new variable. A `whole` one takes no fractions."""
        self._costs.append(cost)
        self._ends.append((least, most))
        self._whole.append(whole)
        return len(self._costs) - 1

    def add_row(self, row: Mapping[int, float], least: float, most: float = highspy.kHighsInf) -> None:
        """`least <= sum of coefficient * variable <= most`."""
        self._rows.append(row)
        self._row_ends.append((least, most))

    def solve(self, gap: float = 1e-4) -> Solution:
        """With whole variables, the cost may be above the least by the `gap`, as a part of it."""
        solver = highspy.Highs()
        solver.setOptionValue("mip_rel_gap", gap)
        solver.setOptionValue("output_flag", False)
        solver.setOptionValue("threads", 1)
        solver.passModel(self._model())
        solver.run()
        found, feasible = solver.getSolution(), solver.getModelStatus() == highspy.HighsModelStatus.kOptimal
        return Solution(np.asarray(found.col_value, float), np.asarray(found.row_dual, float), feasible)

    def certified(self, prices: _Floats) -> float:
        """A figure that the least cost is not below, whatever the prices are: no solver has to be trusted for it.

        A price of the wrong sign is taken for 0, and each variable takes the end that is worse for the figure (Neumaier
        and Shcherbina, Safe bounds in linear and mixed-integer linear programming, 2004). Variables that can push the
        figure must have ends. Rows have one end, or two that are equal.
        """
        safe = [
            price if least == most else max(0.0, price)
            for price, (least, most) in zip(prices.tolist(), self._row_ends, strict=True)
        ]
        reduced = list(self._costs)
        for row, price in zip(self._rows, safe, strict=True):
            for variable, coefficient in row.items():
                reduced[variable] -= price * coefficient
        given = sum(price * least for price, (least, _) in zip(safe, self._row_ends, strict=True))
        worst = (cost * (low if cost >= 0 else high) for cost, (low, high) in zip(reduced, self._ends, strict=True))
        return float(given + sum(worst))

    def _model(self) -> highspy.HighsLp:
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = len(self._costs), len(self._rows)
        lp.col_cost_ = np.asarray(self._costs)
        lp.col_lower_, lp.col_upper_ = np.asarray(self._ends).T
        lp.row_lower_, lp.row_upper_ = np.asarray(self._row_ends).T
        lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        lp.a_matrix_.start_ = np.cumsum([0, *map(len, self._rows)])
        lp.a_matrix_.index_ = np.asarray([i for row in self._rows for i in row])
        lp.a_matrix_.value_ = np.asarray([value for row in self._rows for value in row.values()])
        if any(self._whole):
            kinds = highspy.HighsVarType
            lp.integrality_ = [kinds.kInteger if whole else kinds.kContinuous for whole in self._whole]
        return lp
