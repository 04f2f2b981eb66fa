"""What this service holds of people: nearly everything that is said here. `store.erasures` takes it out."""

from typing import Final

from relevo.chassis.erasing import Personal

PERSONAL: Final = Personal(
    also_columns={
        "contacts": (
            "name",
            "email",
            "phone",
            "language",
            "labels",
            "identifier",
            "company",
            "city",
            "country",
            "attributes",
            "plain",
        ),
        "contact_channels": ("source_id", "recipient_key"),
        "contact_notes": ("text", "author", "author_name"),
        "contact_merges": ("base", "other", "channels"),
        "contact_import_failures": ("cells", "faults"),
        "contact_import_previews": ("identifier", "email", "phone", "person"),
        "conversations": ("source_id", "recipient_key", "subject", "attributes"),
        "messages": ("text", "author_name", "external_id", "attachments", "error", "activity"),
        "message_edits": ("actor", "text"),
        "waiting_messages": ("text", "attachments", "author_name", "refused"),
        "drafts": ("text",),
        "files": ("name",),
        # Of messages and subjects, by their triggers.
        "search_words": ("words",),
        "deleted_conversations": ("reason",),
        "surveys": ("comment",),
        "reminders": ("text",),
    },
    plain={
        # Codes, and who of the team it was.
        "conversations": ("channel", "external_key", "labels", "language", "mentioned", "priority", "stage", "status"),
        "messages": ("kind", "author", "cause", "mentions", "reactions", "reply_to", "status"),
        "files": ("content_type", "sha256", "uploaded_by"),
        "search_words": ("kind",),
        "deleted_conversations": ("actor", "actor_name"),
        "surveys": ("language", "way"),
        "reminders": ("remind", "set_by", "unless"),
        "contact_merges": ("actor", "actor_name"),
        "contact_erasures": ("actor", "actor_name"),
        "contact_erasure_parts": ("service",),
        # The team's own words and settings.
        "attribute_definitions": ("currency", "description", "entity", "key", "kind", "name", "options"),
        "bulk_jobs": ("act", "actor", "refusals", "state"),
        "canned_replies": ("code", "folded", "text", "updated_by"),
        "contact_segments": ("filter", "name"),
        "conversation_merges": ("actor", "actor_name", "labels"),
        "labels": ("color", "description", "folded", "into_key", "key", "name", "state", "updated_by"),
        "macros": ("acts", "name"),
        "signatures": ("text",),
        "views": ("filters", "name", "sort"),
        "file_secrets": ("secret",),
        "log_places": ("entity",),
        "seedings": ("indexes", "plan"),
        # A digest of the id in the system that a past conversation came from.
        "conversation_import_keys": ("external_key",),
        "contact_imports": (
            "actor",
            "actor_name",
            "columns",
            "delimiter",
            "error",
            "file_name",
            "header",
            "kind",
            "mode",
            "region",
            "state",
        ),
        # The file of an import that was begun: gone when it ends, or after seven days.
        "contact_import_parts": ("data",),
    },
)
