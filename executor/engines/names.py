"""How engines know programs and tenants: by names that fit a header, and by salts that part prefix caches."""

from hashlib import blake2b
from urllib.parse import quote

from halo_vllm.policy.hints import Clamps
from planner.ir.ids import ProgramId
from planner.ir.values import Json

_SALT_BYTES = 32


def engine_name(program: ProgramId) -> str:
    """What a header cannot hold is percent-encoded; a name that is too long is hashed."""
    name, longest = quote(program.encode("utf-8", "surrogatepass"), safe="/#:@[]"), Clamps().longest_program
    return name if len(name) <= longest else blake2b(name.encode(), digest_size=_SALT_BYTES).hexdigest()


def salted(tenant: str, own: Json = None) -> str:
    """A tenant may part its own cache further; no other tenant comes to the same."""
    text = f"halo\0{tenant}\0{own if isinstance(own, str) else ''}"
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_SALT_BYTES).hexdigest()
