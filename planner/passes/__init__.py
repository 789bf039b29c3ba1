"""The optimizer's table of contents: what is done to a job, in this order."""

from planner.draft import Pass
from planner.passes.drop_unused_stages import drop_unused_stages
from planner.passes.group_rows_by_prefix import group_rows_by_prefix
from planner.passes.merge_across_rows import merge_across_rows
from planner.passes.merge_identical_stages import merge_identical_stages
from planner.passes.reorder_prompt_blocks import reorder_prompt_blocks

PASSES: tuple[Pass, ...] = (
    drop_unused_stages,  # first: what is not run need not be compared
    merge_identical_stages,
    reorder_prompt_blocks,  # before works are named: names are of what is asked
    merge_across_rows,  # names the work of the stages that are left
    group_rows_by_prefix,  # knows from those names which prompts read equal outputs
)
