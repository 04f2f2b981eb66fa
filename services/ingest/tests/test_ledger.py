"""Dedup keys, body hashes, and the verdict over a batch."""

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from relevo.contracts.inbound import InboundMessage, InboundStatus
from relevo.contracts.ingest import InboxState
from relevo.ingest.domain.ledger import (
    Arrival,
    Place,
    Verdict,
    arrival,
    body_hash,
    dedup_key,
    firsts,
    judge,
    sender_entity,
)

INBOX = InboxState(
    id="01990000-0000-7000-8000-000000000001",
    account_id="01990000-0000-7000-8000-00000000000a",
    name="WhatsApp",
    channel="whatsapp",
)
AT = datetime(2026, 3, 1, tzinfo=UTC)


def message(external_id: str = "1", text: str = "hola", **more: Any) -> InboundMessage:
    return InboundMessage.model_validate(
        {
            "kind": "message",
            "external_id": external_id,
            "sender": {"id": "ana"},
            "content": {"text": text},
            "occurred_at": AT,
        }
        | more
    )


def status(external_id: str = "1", name: str = "read") -> InboundStatus:
    return InboundStatus.model_validate(
        {
            "kind": "status",
            "external_id": external_id,
            "sender": {"id": "ana"},
            "message_id": "m",
            "status": name,
            "occurred_at": AT,
        }
    )


def test_keys_are_what_they_will_be_for_ever() -> None:
    # The ledger holds these for years: a change here would let every old event in again.
    assert dedup_key(message("wamid.1")).hex() == "787a1859e1e6f36d876063d3e9840431"
    assert dedup_key(status("wamid.1", "read")).hex() == "0076ddb525d3e48b55abd5da5ad7f2d1"
    assert sender_entity(INBOX.id, "zearbv4g7amsxh6kweqig7cqbm") == "fa0bd815-385b-5252-88ac-944d972d8d90"


def test_keys_tell_kinds_and_statuses_apart() -> None:
    keys = {
        dedup_key(message("1")),
        dedup_key(message("2")),
        dedup_key(status("1", "sent")),
        dedup_key(status("1", "read")),
    }
    assert len(keys) == 4


def test_a_retry_may_bring_a_new_profile_and_raw_but_no_other_words() -> None:
    first = body_hash(message())
    assert body_hash(message(raw={"attempt": 2}, sender={"id": "ana", "name": "Ana"})) == first
    assert body_hash(message(text="adiós")) != first
    assert body_hash(message(sender={"id": "eva"})) != first


BATCHES = st.lists(
    st.builds(
        lambda external_id, text: arrival(INBOX, message(external_id, text), at=AT),
        st.sampled_from("abcd"),
        st.sampled_from(["x", "y"]),
    ),
    max_size=12,
)


@given(st.lists(BATCHES, max_size=4))
def test_judging_batches_is_the_same_as_judging_one_by_one(batches: list[list[Arrival]]) -> None:
    by_batch: list[Verdict] = []
    ledger: dict[Place, bytes] = {}
    for batch in batches:
        claimed = {place for place in firsts(batch) if place not in ledger}
        known = {place: ledger[place] for place in firsts(batch) if place in ledger}
        by_batch += judge(batch, claimed, known)
        for place, one in firsts(batch).items():
            ledger.setdefault(place, one.body_hash)
    expected: list[Verdict] = []
    seen: dict[Place, bytes] = {}
    for one in (one for batch in batches for one in batch):
        if one.place not in seen:
            seen[one.place] = one.body_hash
            expected.append(Verdict.ACCEPTED)
        else:
            expected.append(Verdict.DUPLICATE if seen[one.place] == one.body_hash else Verdict.CONFLICT)
    assert by_batch == expected
