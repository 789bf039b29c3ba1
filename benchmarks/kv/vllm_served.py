"""vLLM's own scheduler with the plugin, spoken to in texts and lengths as `LightEngine` is."""

from collections.abc import Mapping
from random import Random

from benchmarks.kv.light_engine import TextCall
from halo_vllm.programs import Programs
from halo_vllm.virtual_time.engine import HALO_SCHEDULER, VOCABULARY, Call, EngineShape, VirtualEngine


class VllmServed:
    """A text's next prompt goes on from what this engine answered before."""

    def __init__(self, capacity_blocks: int, block_tokens: int, settings: Mapping[str, object]) -> None:
        shape = EngineShape(HALO_SCHEDULER, kv_blocks=capacity_blocks, block_tokens=block_tokens, halo=settings)
        self.capacity_blocks = capacity_blocks
        self.engine = VirtualEngine(shape)
        self._texts: dict[int, list[int]] = {}

    @property
    def now_s(self) -> float:
        return self.engine.now_s

    @now_s.setter
    def now_s(self, now_s: float) -> None:
        self.engine.now_s = now_s

    @property
    def programs(self) -> Programs:
        programs = self.engine.scheduler._programs
        assert isinstance(programs, Programs), "the plugin is not at work"
        return programs

    @property
    def busy(self) -> bool:
        return self.engine.busy

    @property
    def kept_blocks(self) -> int:
        kept = self.engine.scheduler._kept
        return int(kept.kept_blocks) if kept is not None else 0

    def ask(self, call: TextCall) -> None:
        text = self._texts.setdefault(call.text, [])
        draw = Random(f"{call.text}/{len(text)}")
        text += draw.choices(range(3, VOCABULARY), k=call.prompt_tokens - len(text))
        prompt = tuple(text[: call.prompt_tokens])
        salt = call.tenant or None
        self.engine.ask(Call(call.id, prompt, call.output_tokens, cache_salt=salt, hints=call.hints))

    def abort(self, call_id: str) -> None:
        self.engine.abort(call_id)

    def hint(self, hint: Mapping[str, object]) -> None:
        self.engine.hint(hint)

    def reset(self) -> bool:
        return bool(self.engine.scheduler.reset_prefix_cache(reset_running_requests=True))

    def step(self) -> list[str] | None:
        done = self.engine.step()
        if done is None:
            return None
        for progress in done:
            self._texts[int(progress.call.id.split("/")[0].removeprefix("agent-"))] += progress.output
        return [progress.call.id for progress in done]
