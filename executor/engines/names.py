"""How engines know programs and tenants: by names that fit a header, and by salts that part prefix caches."""

from hashlib import blake2b
from urllib.parse import quote, unquote_to_bytes

from halo_vllm.policy.hints import Clamps
from planner.ir.ids import ProgramId
from planner.ir.values import Json

_SALT_BYTES = 32


def engine_name(program: ProgramId) -> str:
    """What a header cannot hold is percent-encoded; a name that is too long is hashed."""
    name, longest = in_header(program), Clamps().longest_program
    return name if len(name) <= longest else blake2b(name.encode(), digest_size=_SALT_BYTES).hexdigest()


def in_header(name: str) -> str:
    """What a header cannot hold is percent-encoded. `from_header` gives the name back."""
    return quote(name.encode("utf-8", "surrogatepass"), safe="/#:@[]")


def from_header(value: str) -> str:
    """A name as a client sends it: percent-encoded, or as the bytes of UTF-8 or Latin-1, which HTTP has as Latin-1."""
    name = unquote_to_bytes(value.encode("latin-1", "replace"))
    try:
        return name.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return name.decode("latin-1")


def salted(tenant: str, own: Json = None) -> str:
    """A tenant may part its own cache further; no other tenant comes to the same."""
    text = f"halo\0{tenant}\0{own if isinstance(own, str) else ''}"
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_SALT_BYTES).hexdigest()
