"""The schema of identity's database, and its doors through the wall between accounts."""

from typing import Final

from relevo.chassis.tenancy import SOUGHT, Door

ACCOUNT_COLUMNS: Final = {"accounts": "id"}
DOORS: Final = (
    # An address signs in before anybody knows of which account: only its own rows are shown.
    Door("sign_in", "agents", f"email = {SOUGHT}"),
    # A link that was sent, or a token that was given, is all that its bearer shows.
    Door("link", "links", f"encode(sha256, 'hex') = {SOUGHT}"),
    Door("sign_up", "sign_ups", f"encode(sha256, 'hex') = {SOUGHT}"),
    Door("refresh", "refresh_tokens", f"encode(sha256, 'hex') = {SOUGHT}"),
    # Behind the operator's token: whether a name or an address is taken.
    Door("setup", "accounts"),
    Door("setup", "agents"),
    # The broker is told of all accounts' credentials in one.
    Door("credentials", "bus_credentials", writes=True),
    # Which administrators lack a permission that an update brought.
    Door("upgrade", "roles"),
    # Which accounts' time of grace is over; what is done then is done within each.
    Door("deletions", "account_deletions"),
    Door("retention", "sessions", writes=True),
    Door("retention", "refresh_tokens", writes=True),
    Door("retention", "links", writes=True),
    Door("retention", "sign_ups", writes=True),
)
