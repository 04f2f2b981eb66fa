"""Permissions, conversation scopes and the predefined roles: the one table of who may do what.

Two questions are kept apart. *Which conversations* a person reaches is a `ConversationScope`; *what* they may do there,
and everywhere else, is a set of `Permission`s. Every endpoint and every command names the permission it needs. The
values are stored in roles and their projections: they are never renamed or reused, only added.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Permission(StrEnum):
    # Conversations: each acts only within the holder's ConversationScope.
    CONVERSATIONS_READ = "conversations.read"
    CONVERSATIONS_MONITOR = "conversations.monitor"  # open live without being shown and without marking it read
    CONVERSATIONS_CREATE = "conversations.create"  # start one from a contact
    CONVERSATIONS_REPLY = "conversations.reply"  # public messages: send, edit, delete, react, send later
    CONVERSATIONS_NOTE = "conversations.note"  # private notes and mentions
    CONVERSATIONS_UPDATE = "conversations.update"  # status but resolved, snooze, priority, subject, attributes
    CONVERSATIONS_RESOLVE = "conversations.resolve"
    CONVERSATIONS_ASSIGN_SELF = "conversations.assign_self"
    CONVERSATIONS_ASSIGN_OTHERS = "conversations.assign_others"  # another agent, a team, nobody
    CONVERSATIONS_LABEL = "conversations.label"
    CONVERSATIONS_ARCHIVE = "conversations.archive"
    CONVERSATIONS_MERGE = "conversations.merge"
    CONVERSATIONS_SPAM = "conversations.spam"
    CONVERSATIONS_FORWARD = "conversations.forward"  # transcript by e-mail or PDF, forward to an address
    CONVERSATIONS_DELETE = "conversations.delete"
    CONVERSATIONS_EXPORT = "conversations.export"
    CONVERSATIONS_IMPORT = "conversations.import"  # past conversations
    SURVEYS_READ = "surveys.read"  # what customers wrote beside their ratings; the ratings show in the conversation

    # Contacts
    CONTACTS_READ = "contacts.read"
    CONTACTS_WRITE = "contacts.write"  # create, edit, notes, labels, block
    CONTACTS_MERGE = "contacts.merge"
    CONTACTS_IMPORT = "contacts.import"
    CONTACTS_EXPORT = "contacts.export"
    CONTACTS_ERASE = "contacts.erase"  # personal data: export and erase one person
    CONTACT_OWNER_SET = "contact_owner.set"
    SEGMENTS_MANAGE = "segments.manage"  # shared segments; everybody keeps private ones

    # What a team works with; everybody who works on conversations may use them
    LABELS_MANAGE = "labels.manage"
    CANNED_MANAGE = "canned.manage"
    MACROS_MANAGE = "macros.manage"  # shared macros; everybody keeps personal ones
    VIEWS_MANAGE = "views.manage"  # shared saved views
    ATTRIBUTES_MANAGE = "attributes.manage"  # definitions of custom attributes

    # Presence
    PRESENCE_READ = "presence.read"  # the roster
    PRESENCE_SELF = "presence.self"
    PRESENCE_OTHERS = "presence.others"  # set, see the history of, subscribe to alerts about others
    PRESENCE_MANAGE = "presence.manage"  # named statuses, automatic rules, availability policy
    SHIFTS_MANAGE = "shifts.manage"  # shifts, date overrides, time off

    # The organisation
    DIRECTORY_READ = "directory.read"  # names of agents, teams and inboxes
    AGENTS_MANAGE = "agents.manage"
    TEAMS_MANAGE = "teams.manage"
    ROLES_MANAGE = "roles.manage"
    KEYS_MANAGE = "keys.manage"  # API keys, bots, credentials of adapters and metrics consumers
    CALENDARS_MANAGE = "calendars.manage"
    SETTINGS_MANAGE = "settings.manage"
    ACCOUNT_MANAGE = "account.manage"  # export or delete the whole account

    # Channels and machinery
    INBOXES_MANAGE = "inboxes.manage"  # inboxes, their connection, message templates
    AUTOMATIONS_MANAGE = "automations.manage"  # rules, auto-replies, follow-ups
    SLA_MANAGE = "sla.manage"
    WEBHOOKS_MANAGE = "webhooks.manage"
    ROUTING_READ = "routing.read"  # queues, loads, decisions and why
    ROUTING_MANAGE = "routing.manage"  # policies, capacity, skills, simulate, shadow
    QUARANTINE_MANAGE = "quarantine.manage"
    DEADLETTERS_MANAGE = "deadletters.manage"
    INBOUND_PUBLISH = "inbound.publish"  # an adapter's key on the HTTP door
    BUS_READ = "bus.read"  # metrics streams and facts

    # Reports: each wider one stands beside the narrower, it does not imply it
    REPORTS_OWN = "reports.own"
    REPORTS_TEAM = "reports.team"
    REPORTS_ALL = "reports.all"
    REPORTS_MANAGE = "reports.manage"  # shared and scheduled reports
    AUDIT_READ = "audit.read"


class ConversationScope(StrEnum):
    """Which conversations a person reaches. Each reaches everything that the following ones reach.

    `NONE` is nothing at all: not even a conversation whose participant or owner one is.
    """

    ALL = "all"
    TEAM = "team"
    UNASSIGNED_OWN = "unassigned_own"
    OWN = "own"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class RoleTemplate:
    """A predefined role. `switches` are permissions that an account may turn on for it; they are off at first."""

    permissions: frozenset[Permission]
    scope: ConversationScope
    switches: frozenset[Permission] = frozenset()
    editable: bool = True


_P = Permission

_AGENT: Final = frozenset(
    {
        _P.CONVERSATIONS_READ,
        _P.CONVERSATIONS_CREATE,
        _P.CONVERSATIONS_REPLY,
        _P.CONVERSATIONS_NOTE,
        _P.CONVERSATIONS_UPDATE,
        _P.CONVERSATIONS_RESOLVE,
        _P.CONVERSATIONS_ASSIGN_SELF,
        _P.CONVERSATIONS_ASSIGN_OTHERS,
        _P.CONVERSATIONS_LABEL,
        _P.CONVERSATIONS_ARCHIVE,
        _P.CONVERSATIONS_MERGE,
        _P.CONVERSATIONS_SPAM,
        _P.CONVERSATIONS_FORWARD,
        _P.CONTACTS_READ,
        _P.CONTACTS_WRITE,
        _P.CANNED_MANAGE,
        _P.PRESENCE_READ,
        _P.PRESENCE_SELF,
        _P.DIRECTORY_READ,
        _P.REPORTS_OWN,
    }
)

_SUPERVISOR: Final = _AGENT | {
    _P.CONVERSATIONS_MONITOR,
    _P.SURVEYS_READ,
    _P.CONTACTS_MERGE,
    _P.CONTACT_OWNER_SET,
    _P.LABELS_MANAGE,
    _P.MACROS_MANAGE,
    _P.VIEWS_MANAGE,
    _P.PRESENCE_OTHERS,
    _P.SHIFTS_MANAGE,
    _P.ROUTING_READ,
    _P.REPORTS_TEAM,
}

_AUDITOR: Final = frozenset(
    {
        _P.CONVERSATIONS_READ,
        _P.CONVERSATIONS_MONITOR,
        _P.CONVERSATIONS_NOTE,
        _P.SURVEYS_READ,
        _P.CONTACTS_READ,
        _P.PRESENCE_READ,
        _P.DIRECTORY_READ,
        _P.ROUTING_READ,
        _P.REPORTS_OWN,
        _P.REPORTS_TEAM,
        _P.REPORTS_ALL,
        _P.AUDIT_READ,
    }
)

_MARKETING: Final = frozenset(
    {
        _P.CONTACTS_READ,
        _P.CONTACTS_WRITE,
        _P.CONTACTS_MERGE,
        _P.CONTACTS_IMPORT,
        _P.CONTACTS_EXPORT,
        _P.SEGMENTS_MANAGE,
        _P.LABELS_MANAGE,
        _P.DIRECTORY_READ,
    }
)

_AGENT_SWITCHES: Final = frozenset({_P.CONTACT_OWNER_SET, _P.SURVEYS_READ})
_OWNER_SWITCH: Final = frozenset({_P.CONTACT_OWNER_SET})

# An administrator holds every permission there is, also those added later: never read that role's from a database.
ROLES: Final[Mapping[str, RoleTemplate]] = MappingProxyType(
    {
        "administrator": RoleTemplate(frozenset(Permission), ConversationScope.ALL, editable=False),
        "supervisor": RoleTemplate(_SUPERVISOR, ConversationScope.TEAM),
        "agent": RoleTemplate(_AGENT, ConversationScope.TEAM, _AGENT_SWITCHES),
        "auditor": RoleTemplate(_AUDITOR, ConversationScope.ALL, _OWNER_SWITCH),
        "marketing": RoleTemplate(_MARKETING, ConversationScope.NONE, _OWNER_SWITCH),
    }
)
