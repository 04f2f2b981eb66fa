"""Who wrote: one contact for one person."""

from hypothesis import given
from hypothesis import strategies as st

from relevo.contracts.base import new_id
from relevo.contracts.inbound import Sender
from relevo.contracts.ingest import InboxState
from relevo.contracts.snapshots import ContactSnapshot
from relevo.conversation.domain.contacts import Sighting, match, sighting

ACCOUNT = new_id()


def seen(source: str, email: str | None = None, phone: str | None = None, account: str = ACCOUNT) -> Sighting:
    return Sighting(account, "inbox", source, "key", source, email, phone)


def test_addresses_and_numbers_are_compared_in_their_normal_form() -> None:
    inbox = InboxState(id=new_id(), account_id=ACCOUNT, name="Correo", channel="email", phone_region="ES")
    found = sighting(inbox, "key", Sender(id="1", email="Ana@EXAMPLE.com", phone="600 111 222"))
    assert (found.email, found.phone) == ("ana@example.com", "+34600111222")
    broken = sighting(inbox, "key", Sender(id="1", email="no es correo", phone="cero"))
    assert (broken.email, broken.phone) == (None, None)


def test_the_known_contact_wins_over_one_that_this_batch_makes() -> None:
    known = ContactSnapshot(id=new_id(), phone="+34600111222")
    result = match([seen("a", "x@x.es"), seen("b", "x@x.es", "+34600111222")], [None, known], new_id)
    assert result.contacts[1] is known
    assert [n.contact for n in result.new] == [result.contacts[0]]


KEYS = st.tuples(
    st.sampled_from([None, "a@x.es", "b@x.es", "c@x.es"]),
    st.sampled_from([None, "+1", "+2", "+3"]),
    st.sampled_from(["one", "two"]),
)


@given(st.lists(KEYS, max_size=12))
def test_new_contacts_never_share_a_key_and_accounts_stay_apart(keys: list[tuple[str | None, str | None, str]]) -> None:
    sightings = [seen(str(n), email, phone, account) for n, (email, phone, account) in enumerate(keys)]
    result = match(sightings, [None] * len(sightings), new_id)
    accounts = {n.contact.id: n.sighting.account_id for n in result.new}
    for kind in ("email", "phone"):
        taken = [(accounts[n.contact.id], value) for n in result.new if (value := getattr(n.contact, kind))]
        assert len(taken) == len(set(taken))
    for one, contact in zip(sightings, result.contacts, strict=True):
        assert accounts[contact.id] == one.account_id
        if one.email is None and one.phone is None:
            assert [c.id for c in result.contacts].count(contact.id) == 1
        else:
            assert contact.email == one.email or contact.phone == one.phone
