"""What a store raises."""


class Fenced(Exception):
    """Somebody else holds the job now; nothing was written."""


class StoreUnavailable(Exception):
    """The database cannot be reached or cannot write just now; trying again later may help."""


class StoreRefused(Exception):
    """The store cannot be opened as things are; the message says why, and how to mend it."""


class JobUnknown(Exception):
    """There is no such job, or it is another tenant's."""


class IdempotencyConflict(Exception):
    """The key was used before, for another request."""
