"""What must be equal for one engine's KV bytes to mean the same to another."""

import json
from dataclasses import asdict, dataclass
from hashlib import sha256

#: Raised whenever what this package writes changes in meaning.
FORMAT = 1


@dataclass(frozen=True, slots=True)
class KvLayout:
    """One engine's KV blocks, as far as another engine must agree to read them.

    `weights` names the very weights (a commit, or names, sizes and times of the files), `config` is the digest of the
    model's own configuration, `block_bytes` is what one of the `ranks` workers holds of a block of `block_tokens`.
    """

    model: str
    weights: str
    config: str
    dtype: str
    block_tokens: int
    block_bytes: int
    layers: int
    ranks: int
    hash_algorithm: str
    engine: str

    @property
    def fingerprint(self) -> str:
        """Two engines share blocks only where this is equal: 32 hexadecimal digits."""
        return sha256(json.dumps([FORMAT, asdict(self)], sort_keys=True).encode()).hexdigest()[:32]
