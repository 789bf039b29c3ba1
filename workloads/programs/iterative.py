"""Iterative refinement: a summary of a long list of reviews, mended with one part of the list after the other.

The shape of the Iterative workload of Helium (arXiv 2603.16104): 6 model calls in a chain, no tool.
"""

import halo

PARTS = 6


@halo.llm(model="general", max_tokens=192)
def begin(item: str, reviews: str) -> str:
    return f"Summarise what buyers say about {item}.\nReviews:\n{reviews}"


@halo.llm(model="general", max_tokens=192)
def refine(item: str, reviews: str, summary: str) -> str:
    return f"Mend the summary of what buyers say about {item}.\nMore reviews:\n{reviews}\nSummary so far: {summary}"


@halo.workflow
def iterative(item: str, reviews: list[str]) -> str:
    """Summarise the reviews of an item; `reviews` are six texts of some reviews each."""
    summary = begin(item, reviews[0])
    for part in range(1, PARTS):
        summary = refine(item, reviews[part], summary)
    return summary
