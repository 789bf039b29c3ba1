"""The engines of a model in the orders in which they are asked for are always what going through all of them finds."""

from dataclasses import replace
from statistics import median

from hypothesis import given
from hypothesis import strategies as st

from executor.core.serving import Serving
from executor.engines.port import EngineSpec
from executor.policy.routing import EngineView, has_room
from planner.ir.ids import EngineId

FLEET = [EngineView(EngineSpec(EngineId(name), "modelled", ("m",), max_running=2)) for name in ("b", "c", "a", "d")]
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "up": st.booleans(),
        "running": st.integers(0, 2),
        "load_s": st.sampled_from([0.0, 1.0, 2.5]),
        "slowness": st.sampled_from([0.5, 1.0, 3.0]),
        "exclusive": st.booleans(),
        "for_others": st.integers(0, 1),
    },
)


@given(st.lists(st.tuples(st.integers(0, len(FLEET) - 1), CHANGES), max_size=20))
def test_orders_are_kept_as_engines_change(changes):
    views, serving = list(FLEET), Serving(FLEET)
    for number, change in changes:
        views[number] = replace(views[number], **change)
        serving.put(views[number])
    up = [view for view in views if view.up]
    open_now = sorted((view for view in up if has_room(view)), key=lambda view: (view.load_s, view.spec.id))
    assert serving.up() == up
    assert serving.with_room() == open_now
    assert [serving.has_room(view.spec.id) for view in views] == [view in open_now for view in views]
    assert serving.usual_slowness == (median(view.slowness for view in up) if up else 1.0)
