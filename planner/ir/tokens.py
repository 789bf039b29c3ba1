"""How many tokens a text has, where no tokenizer is at hand."""

CHARS_PER_TOKEN = 4


def estimate_tokens(text: str) -> int:
    """A quarter of the characters, rounded up: an estimate, right within a third for English and SQL."""
    return -(-len(text) // CHARS_PER_TOKEN)
