"""vLLM's own scheduler and KV cache manager under a virtual clock: agent programs replayed in seconds, without noise.

What a model runner would take is told by its `Costs`; everything else that decides is vLLM's own code. Needs vLLM to
be importable, but no GPU, no weights and no server.
"""
