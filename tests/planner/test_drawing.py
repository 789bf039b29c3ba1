"""Where a plan's boxes and lines are drawn."""

from hypothesis import given, settings
from plan_strategies import plans

from planner.drawing import Box, draw
from planner.ir.plan import Plan
from planner.ir.sites import walk


def overlap(left: Box, right: Box) -> bool:
    apart = left.x + left.width <= right.x or right.x + right.width <= left.x
    return not apart and left.y < right.y + right.height and right.y < left.y + left.height


def holds(frame: Box, box: Box) -> bool:
    return (
        frame.x <= box.x
        and frame.y <= box.y
        and box.x + box.width <= frame.x + frame.width
        and box.y + box.height <= frame.y + frame.height
    )


@settings(max_examples=100, deadline=None)
@given(plans())
def test_every_stage_has_a_box_of_its_own_and_bodies_lie_inside_their_stage(plan: Plan) -> None:
    drawing = draw(plan, {})
    boxes = {box.path: box for box in drawing.boxes}

    assert set(boxes) == {site.path for site in walk(plan)}
    for box in boxes.values():
        assert -0.01 <= box.x <= box.x + box.width <= drawing.width + 0.01
        assert -0.01 <= box.y <= box.y + box.height <= drawing.height + 0.01
    paths = sorted(boxes)
    for place, one in enumerate(paths):
        for other in paths[place + 1 :]:
            inside = boxes[one].is_frame and other.startswith((f"{one}[", f"{one}#", f"{one}?"))
            assert holds(boxes[one], boxes[other]) if inside else not overlap(boxes[one], boxes[other])


@settings(max_examples=50, deadline=None)
@given(plans())
def test_lines_run_from_left_to_right(plan: Plan) -> None:
    for line in draw(plan, {}).lines:
        assert [x for x, _ in line.points] == sorted(x for x, _ in line.points)
