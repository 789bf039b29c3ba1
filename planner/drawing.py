"""A plan as boxes and lines, from left to right: where each is drawn. Bodies are boxes inside the box of their stage.

Layers are longest paths; lines over several layers get a place in each; places in a layer follow the mean of their
neighbours (Sugiyama, Tagawa and Toda, 1981), which keeps crossings few in plans as small as these.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from planner.ir.plan import Plan, Stage
from planner.ir.reads import stages_read
from planner.ir.sites import bodies_at

_CHAR, _LINE, _PAD = 6.6, 15.0, 9.0
_BETWEEN_LAYERS, _BETWEEN_BOXES, _LANE = 56.0, 14.0, 10.0
_SWEEPS = 6


@dataclass(frozen=True, slots=True)
class Box:
    """A stage. `lines` are written from its top left corner on; `is_frame` marks one that holds others."""

    path: str
    x: float
    y: float
    width: float
    height: float
    lines: tuple[str, ...]
    is_frame: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """What the stage at its end reads. `points` are where it passes, from left to right."""

    points: tuple[tuple[float, float], ...]

    @property
    def svg_path(self) -> str:
        """Smooth, and level where it leaves and arrives."""
        x, y = self.points[0]
        parts = [f"M{x:.1f} {y:.1f}"]
        for end_x, end_y in self.points[1:]:
            middle = (x + end_x) / 2
            parts.append(f"C{middle:.1f} {y:.1f} {middle:.1f} {end_y:.1f} {end_x:.1f} {end_y:.1f}")
            x, y = end_x, end_y
        return " ".join(parts)


@dataclass(frozen=True, slots=True)
class Drawing:
    """Frames stand before what is inside them."""

    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]
    width: float
    height: float

    def moved(self, x: float, y: float) -> "Drawing":
        boxes = tuple(replace(box, x=box.x + x, y=box.y + y) for box in self.boxes)
        lines = tuple(Line(tuple((px + x, py + y) for px, py in line.points)) for line in self.lines)
        return Drawing(boxes, lines, self.width, self.height)


def draw(plan: Plan, texts: Mapping[str, Sequence[str]], prefix: str = "") -> Drawing:
    """`texts` has what is written below the name of each stage, by its path (see `planner.ir.sites`)."""
    stages: dict[str, Drawing] = {stage.id: _stage(stage, prefix + stage.id, texts) for stage in plan.stages}
    reads: dict[str, list[str]] = {stage.id: list(dict.fromkeys(stages_read(stage))) for stage in plan.stages}
    return _Layers(stages, reads).drawing()


def _stage(stage: Stage, path: str, texts: Mapping[str, Sequence[str]]) -> Drawing:
    """The box of one stage at the origin, with all that is inside it."""
    lines = (str(stage.id), *texts.get(path, ()))
    width = max(map(len, lines)) * _CHAR + 2 * _PAD
    height = len(lines) * _LINE + 2 * _PAD
    inside = [draw(body.plan, texts, inner) for inner, body in bodies_at(path, stage) if body.plan.stages]
    if not inside:
        return Drawing((Box(path, 0.0, 0.0, width, height, lines),), (), width, height)
    placed, below = [], height
    for body in inside:
        placed.append(body.moved(_PAD, below))
        below += body.height + _PAD
    width = max(width, *(body.width + 2 * _PAD for body in inside))
    frame = Box(path, 0.0, 0.0, width, below, lines, is_frame=True)
    boxes = (frame, *(box for body in placed for box in body.boxes))
    return Drawing(boxes, tuple(line for body in placed for line in body.lines), width, below)


@dataclass(frozen=True, slots=True)
class _Place:
    """A stage, or in a layer further on the lane that all lines from it pass through."""

    of: str
    layer: int
    is_lane: bool = False


class _Layers:
    """One plan, without what its bodies hold: they are drawn already."""

    def __init__(self, stages: Mapping[str, Drawing], reads: Mapping[str, Sequence[str]]) -> None:
        self._stages = stages
        self._depth: dict[str, int] = {}
        for name in stages:
            self._depth[name] = 1 + max((self._depth[source] for source in reads[name]), default=-1)
        self._chains = [self._chain(source, name) for name in stages for source in reads[name]]
        self._layers = self._filled()
        self._middle: dict[_Place, float] = {}

    def drawing(self) -> Drawing:
        if not self._stages:
            return Drawing((), (), 0.0, 0.0)
        self._put_in_order()
        lefts, width = self._lefts()
        top = min(self._middle[place] - self._height(place) / 2 for layer in self._layers for place in layer)
        bottom = max(self._middle[place] + self._height(place) / 2 for layer in self._layers for place in layer)
        drawn = [self._stages[name].moved(lefts[self._depth[name]], self._top(name) - top) for name in self._stages]
        lines = [self._line(chain, lefts, top) for chain in self._chains]
        inner = [line for stage in drawn for line in stage.lines]
        return Drawing(tuple(box for stage in drawn for box in stage.boxes), (*lines, *inner), width, bottom - top)

    def _chain(self, source: str, name: str) -> list[_Place]:
        """The places that a line from `source` to `name` goes through, both included."""
        first, last = self._depth[source], self._depth[name]
        lanes = [_Place(source, layer, True) for layer in range(first + 1, last)]
        return [_Place(source, first), *lanes, _Place(name, last)]

    def _filled(self) -> list[list[_Place]]:
        layers: dict[int, dict[_Place, None]] = defaultdict(dict)
        for name in self._stages:
            layers[self._depth[name]][_Place(name, self._depth[name])] = None
        for chain in self._chains:
            for place in chain[1:-1]:
                layers[place.layer][place] = None
        return [list(layers[layer]) for layer in sorted(layers)]

    def _put_in_order(self) -> None:
        before: dict[_Place, list[_Place]] = defaultdict(list)
        behind: dict[_Place, list[_Place]] = defaultdict(list)
        for chain in self._chains:
            for left, right in pairwise(chain):
                before[right].append(left)
                behind[left].append(right)
        for layer in self._layers:
            self._stack(layer)
        for sweep in range(_SWEEPS):
            layers, near = (self._layers, before) if sweep % 2 == 0 else (self._layers[::-1], behind)
            for layer in layers:
                wanted = {place: self._mean(near[place], self._middle[place]) for place in layer}
                layer.sort(key=wanted.__getitem__)
                self._stack(layer, wanted)

    def _mean(self, places: Sequence[_Place], otherwise: float) -> float:
        return sum(self._middle[place] for place in places) / len(places) if places else otherwise

    def _stack(self, layer: Sequence[_Place], wanted: Mapping[_Place, float] | None = None) -> None:
        """From top to bottom without overlap; the whole layer as near as can be to where its places want to be."""
        at, tops = 0.0, {}
        for place in layer:
            want = at if wanted is None else max(at, wanted[place] - self._height(place) / 2)
            tops[place], at = want, want + self._height(place) + _BETWEEN_BOXES
        shift = -at / 2 if wanted is None else self._mean_shift(layer, tops, wanted)
        for place in layer:
            self._middle[place] = tops[place] + self._height(place) / 2 + shift

    def _mean_shift(
        self, layer: Sequence[_Place], tops: Mapping[_Place, float], wanted: Mapping[_Place, float]
    ) -> float:
        return sum(wanted[place] - tops[place] - self._height(place) / 2 for place in layer) / len(layer)

    def _height(self, place: _Place) -> float:
        return _LANE if place.is_lane else self._stages[place.of].height

    def _top(self, name: str) -> float:
        return self._middle[_Place(name, self._depth[name])] - self._stages[name].height / 2

    def _lefts(self) -> tuple[list[float], float]:
        """Where each layer begins, and where the last one ends."""
        lefts, at = [], 0.0
        for layer in self._layers:
            lefts.append(at)
            at += max((self._stages[place.of].width for place in layer if not place.is_lane), default=0.0)
            at += _BETWEEN_LAYERS
        return lefts, at - _BETWEEN_LAYERS

    def _line(self, chain: Sequence[_Place], lefts: Sequence[float], top: float) -> Line:
        source, end = chain[0], chain[-1]
        points = [(lefts[source.layer] + self._stages[source.of].width, self._middle[source] - top)]
        for lane in chain[1:-1]:
            middle = self._middle[lane] - top
            points += [(lefts[lane.layer], middle), (lefts[lane.layer + 1] - _BETWEEN_LAYERS, middle)]
        return Line((*points, (lefts[end.layer], self._middle[end] - top)))
