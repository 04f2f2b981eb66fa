"""What can go wrong, in words that say how to mend it."""

from collections.abc import Mapping


class AdapterError(Exception):
    """The base of all errors of this SDK."""


class BadCredentials(AdapterError):
    """The .creds file cannot be read, or is none."""


class NotAuthorized(AdapterError):
    """The bus refused the credential: revoked, expired, or of another system. Issue a new one."""


class Closed(AdapterError):
    """The adapter is not open: use it within ``async with``."""


class TooLarge(AdapterError):
    """The event would not fit on the bus. Leave ``raw`` out, or shorten the text."""


class SpoolFull(AdapterError):
    """The bus is away and the spool has no room: nothing was taken. Answer the provider with an error and let it retry."""


class SpoolUnusable(AdapterError):
    """The spool's file cannot be opened or written, or another process uses it."""


class PartlyPublished(AdapterError):
    """Some events of ``publish_many`` were not taken; all others were. ``failures`` by their place in the call."""

    def __init__(self, failures: Mapping[int, AdapterError]) -> None:
        first, error = next(iter(failures.items()))
        super().__init__(f"{len(failures)} events were not published, the first is number {first}: {error}")
        self.failures = dict(failures)


class Undeliverable(AdapterError):
    """Raise it in the outbound handler when trying again cannot help: the message is reported as failed, with this text."""
