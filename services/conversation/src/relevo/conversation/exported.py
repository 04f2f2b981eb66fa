"""What this service tells in the export of a whole account, and what it leaves out."""

from typing import Final

from relevo.chassis.exporting import Exported

EXPORTED: Final = Exported(
    tables={
        "attribute_definitions": (),
        "bulk_jobs": (),
        "canned_replies": (),
        "contact_activity": (),
        "contact_channels": (),
        "contact_erasure_parts": (),
        "contact_erasures": (),
        "contact_import_failures": (),
        "contact_imports": (),
        "contact_merges": (),
        "contact_notes": (),
        "contact_segments": (),
        "contacts": ("plain",),
        "conversation_merges": (),
        "conversations": (),
        "deleted_conversations": (),
        "drafts": (),
        "files": ("sha256",),
        "labels": (),
        "macros": (),
        "mentions": (),
        "message_edits": (),
        "messages": (),
        "reminders": (),
        "seen": (),
        "signatures": (),
        "surveys": (),
        "views": (),
        "waiting_messages": (),
    },
    left_out={
        "contact_import_parts": "a file of the account's own that is being read",
        "contact_import_previews": "what an import would do",
        "conversation_count_changes": "counts of what is told",
        "conversation_counts": "counts of what is told",
        "conversation_import_keys": "what an import has taken already",
        "file_secrets": "secret",
        "handled_commands": "ids of requests between services",
        "log_places": "where the archive tells of what",
        "search_buckets": "the index of words",
        "search_words": "the index of words",
        "seeded_blocks": "made-up data of tests",
        "seedings": "made-up data of tests",
    },
)
