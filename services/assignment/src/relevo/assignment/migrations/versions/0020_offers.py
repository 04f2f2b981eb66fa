"""Offers: a conversation is somebody's to take for a while, and of their capacity already."""

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        alter table conversations_held
            add column declined uuid[] not null default '{}',
            add column offered_to uuid,
            add column offered_at timestamptz,
            add column offered_until timestamptz,
            drop constraint conversations_held_state_check,
            drop constraint conversations_held_check,
            drop constraint conversations_held_check2,
            add constraint conversations_held_state_check
                check (state in ('assigned', 'queued', 'offered', 'unassigned', 'closed')),
            add constraint conversations_held_queued_check
                check ((state in ('queued', 'offered')) = (queued_at is not null)),
            add constraint conversations_held_nobody_check
                check (state not in ('queued', 'offered', 'unassigned') or assignee_id is null),
            add constraint conversations_held_offered_check check (
                (state = 'offered') = (offered_to is not null)
                and (state = 'offered') = (offered_at is not null)
                and (state = 'offered') = (offered_until is not null))
    """)
    op.execute("""
        create index conversations_held_offered on conversations_held (account_id, offered_to) where state = 'offered'
    """)
    op.execute("alter table agents add column offered integer not null default 0 check (offered >= 0)")
    op.execute("alter table agents add column unanswered integer not null default 0")
    op.execute("alter table agents_then add column offered integer not null default 0")
    op.execute("alter table agents_then add column unanswered integer not null default 0")
    # What is there already keeps to a narrower one: not read again, there may be many.
    op.execute("""
        alter table decisions
            drop constraint decisions_kind_check,
            add constraint decisions_kind_check check (kind in ('assigned', 'queued', 'offered', 'unassigned')) not valid,
            add column declined uuid[] not null default '{}',
            add column offered_to uuid,
            add column offered_until timestamptz,
            add column ended_offer jsonb
    """)
    op.execute(
        "comment on column conversations_held.declined is 'who declined it since it began to wait: not offered to them again'"
    )
    op.execute(
        "comment on column agents.offered is 'how many conversations are offered to them; part of what is taken'"
    )
    op.execute("comment on column agents.unanswered is 'how many offers in a row they let pass, in this status'")
    op.execute("comment on column decisions.ended_offer is 'the offer that ended with it'")
