"""From the tiny model of `make engine` one whose answers depend on all of their prompt. Run by `.venv-engine`'s Python.

    .venv-engine/bin/python benchmarks/planner/make_prompt_dependent_model.py FROM TO

The tiny model attends to everything alike and says nearly the same whatever it is asked, so rows that differ would ask
for equal work. Here attention is sharp, and free text is never ended by the model: all arms of a benchmark get answers
of the length they ask for, as with `ignore_eos`. Speed is that of the tiny model.
"""

import shutil
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

#: By trial: of 64 prompts of 550 tokens that differ in a few words all get answers of their own; with 4, only 4 do.
SHARPNESS = 16.0
TURN_END = 2
#: Dimension 0 of the hidden state is a constant (`scripts/make_tiny_llama.py`): with this, the end is never chosen.
NEVER = -100.0


@torch.no_grad()
def main() -> None:
    source, target = map(Path, sys.argv[1:3])
    shutil.copytree(source, target, dirs_exist_ok=True)
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16)
    for layer in model.model.layers:
        layer.self_attn.q_proj.weight *= SHARPNESS
        layer.self_attn.k_proj.weight *= SHARPNESS
    model.lm_head.weight[TURN_END] = 0
    model.lm_head.weight[TURN_END, 0] = NEVER
    model.save_pretrained(target)


if __name__ == "__main__":
    main()
