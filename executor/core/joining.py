"""What a call takes on an engine that it joins as it is, and what that costs those inside.

Shares of an engine (`Fleet.shares`) tell what calls take while all engines are full. One that has room is not: a large
one that is slow has small shares, and a call lasts long there all the same.
"""

from dataclasses import replace

from executor.core.fleet import CallT, Fleet
from executor.policy.routing import Offer

#: What a second that others lose counts beside one of the call itself: less, as some end before it does. Between 0.7
#: and 1.5 the P95 of ten cells of `benchmarks.scheduling.hexgen` differs by half a percent on average.
OTHERS = 0.7
#: Engines serve calls beside each other, and what was begun is partly done: a call ends after so much of all the work
#: inside, its own with it. That counts where others are many and their prompts are in its way.
PART_BEFORE = 0.35


def joining(fleet: Fleet[CallT], work: CallT, share: Offer, output_tokens: float, waits_s: float = 0.0) -> Offer:
    """From the call's `share` of the engine to an offer where it begins at once: its seconds are all that pass there
    until it is done, in the steps of those inside. They wait while its prompt is read, and their steps are longer.

    For `waits_s` its program waits for other calls in any case: to be done sooner is worth nothing to it.
    """
    view, engine = share.view, share.view.spec.id
    inside_tokens = fleet.caches[engine].in_flight_tokens
    tokens = inside_tokens + share.prompt_tokens + output_tokens / 2
    step_s = fleet.step_s(engine, work.model, view.running + 1, tokens)
    longer_s = step_s - fleet.step_s(engine, work.model, view.running, inside_tokens)
    done_s = share.prefill_s + output_tokens * step_s
    others_s = view.running * (share.prefill_s + output_tokens * longer_s)
    own_s = max(done_s, waits_s / view.slowness)
    joined_s = max(own_s + OTHERS * others_s, PART_BEFORE * (view.load_s + share.load_s))
    return replace(share, view=replace(view, load_s=0.0), load_s=done_s, joined_s=joined_s)
