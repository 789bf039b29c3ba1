"""mini-swe-agent with its own configuration and its local environment, on a repository. Prints how it ended as JSON.

use_mini.py MODEL REPOSITORY mini.yaml|mini_textbased.yaml
"""

import json
import sys

from minisweagent.agents.default import DefaultAgent
from minisweagent.config import get_config_from_spec
from minisweagent.environments.local import LocalEnvironment
from minisweagent.models import get_model


def main() -> None:
    model, repository, name = sys.argv[1:]
    config = get_config_from_spec(name)
    environment = {name: value for name, value in config.get("environment", {}).items() if name != "environment_class"}
    wanted = {
        name: value for name, value in config["agent"].items() if name in ("system_template", "instance_template")
    }
    agent = DefaultAgent(
        get_model(f"openai/{model}", config.get("model", {})),
        LocalEnvironment(**{**environment, "cwd": repository}),
        **wanted,
    )
    ended = agent.run("The test fails. Mend it.")
    print(json.dumps({"exit": ended["exit_status"], "calls": agent.n_calls}))


main()
