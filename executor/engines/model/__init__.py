"""An engine without a GPU: what a vLLM-like engine would do with its calls, step by step, in virtual time."""
