"""Erasing a person everywhere: what the service that knows them tells all the others, and what these answer."""

from relevo.contracts.base import Id, Model, Time


class SenderRef(Model):
    """A person as one inbox knows them; ``sender_key`` is the token of them in subjects, a digest."""

    inbox_id: Id
    sender_key: Id


class ErasePerson(Model):
    """Take a person out of everything that is kept. What is told of them after ``asked_at`` is of somebody new.

    ``erasure_id`` names this request. The ids are all that anybody needs to find what is theirs: no name is in it. With
    ``sweep`` every log is done with: whoever keeps a stream that others fill deletes from it what theirs no longer say.
    """

    erasure_id: Id
    contact_id: Id
    merged_ids: tuple[Id, ...] = ()
    conversation_ids: tuple[Id, ...] = ()
    senders: tuple[SenderRef, ...] = ()
    asked_at: Time
    sweep: bool = False


class PersonErased(Model):
    """The sender holds nothing of a person any more: tables, log, segments, its own streams; or it has swept the others."""

    erasure_id: Id
    contact_id: Id
    sweep: bool = False
    redacted: int = 0
    deleted: int = 0
