"""What a plan needs where it runs: models and tools."""

from planner.ir.plan import Agent, Generate, Plan, Stage, Tool, ToolSpec
from planner.ir.sites import walk


def models_of(plan: Plan) -> tuple[str, ...]:
    """The models the plan calls, in the order of its stages."""
    stages = (site.stage for site in walk(plan))
    return tuple(dict.fromkeys(stage.model for stage in stages if isinstance(stage, Generate | Agent)))


def tools_of(plan: Plan) -> tuple[ToolSpec, ...]:
    """Each tool once, by name."""
    found = {tool.name: tool for site in walk(plan) for tool in stage_tools(site.stage)}
    return tuple(found[name] for name in sorted(found))


def stage_tools(stage: Stage) -> tuple[ToolSpec, ...]:
    """The tools a stage runs itself; those of its bodies are not among them."""
    match stage:
        case Tool(tool=tool):
            return (tool,)
        case Agent(tools=tools):
            return tools
        case _:
            return ()
