"""From a request to what the engine model needs to know of it. Shared by the live and the simulated driver."""

from dataclasses import dataclass

from executor.engines.answers import Answers, completion_of
from executor.engines.model.block_pool import BlockName, block_names
from executor.engines.port import Completion, EngineSpec, GenerateRequest
from executor.engines.prompts import answer_text, checked_prompt_tokens, prompt_text
from planner.cost.profile import Profile
from planner.ir.conversation import tool_call_messages


@dataclass(frozen=True, slots=True)
class PreparedCall:
    """A call whose answer is known and whose duration is not. `names` are the blocks of prompt and answer."""

    completion: Completion
    names: tuple[BlockName, ...]

    @property
    def prompt_tokens(self) -> int:
        return self.completion.usage.prompt_tokens

    @property
    def output_tokens(self) -> int:
        return max(1, self.completion.usage.output_tokens)


def prepare_call(spec: EngineSpec, request: GenerateRequest, answers: Answers, profile: Profile) -> PreparedCall:
    """Raises `EngineFailed` where the engine would refuse the request, or where nothing can be answered to it."""
    prompt = prompt_text(request.messages, request.tools)
    context_tokens = min(spec.context_tokens, profile.kv_blocks * profile.block_tokens)
    prompt_tokens = checked_prompt_tokens(spec, request, profile.text_tokens(len(prompt)), context_tokens)
    completion = completion_of(request, answers.answer(request), prompt_tokens)
    text = prompt + answer_text(completion.text, tool_call_messages(completion.tool_calls))
    return PreparedCall(completion, block_names(text, profile.block_characters, request.cache_salt or ""))
