"""What this service tells in the export of a whole account, and what it leaves out."""

from typing import Final

from relevo.chassis.exporting import Exported

EXPORTED: Final = Exported(
    tables={
        "account_deletions": (),
        "accounts": (),
        "agents": ("folded_name",),
        "api_keys": ("sha256",),
        "audit_log": (),
        "bus_credentials": ("sha256",),
        "calendars": (),
        "oidc_identities": (),
        "roles": (),
        "sessions": (),
        "team_members": (),
        "teams": (),
    },
    left_out={
        "links": "secret",
        "passwords": "secret",
        "recovery_codes": "secret",
        "refresh_tokens": "secret",
        "second_factors": "secret",
        "sign_ups": "there is no account yet",
    },
    columns={"accounts": "id"},
)
