"""An engine of which a call's seconds can be told in the head."""

from dataclasses import replace

from executor.engines.model.profiles import profile_for

#: One second a step, and nothing else costs time: a call takes as many seconds as its answer has tokens.
SECOND = replace(
    profile_for("cpu"),
    weights_s=0.0,
    token_s=0.0,
    blend=1.0,
    chunked=True,
    kv_read_s=0.0,
    attend_s=0.0,
    look_back_s=None,
    overhead_s=1.0,
    sequence_s=0.0,
    call_s=0.0,
    round_trip_s=0.0,
    error=0.1,
)
