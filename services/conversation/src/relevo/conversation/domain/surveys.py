"""Satisfaction surveys: who is asked and who is not, what an answer is, and who may be sent where it is given."""

import hashlib
import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal, NamedTuple
from uuid import UUID

from relevo.contracts.conversation import OutboundMessage, SurveyAnswered, SurveySent
from relevo.contracts.ingest import SurveySettings, SurveyWay
from relevo.contracts.personal import nameless
from relevo.conversation.domain import writing
from relevo.conversation.domain.life import received
from relevo.conversation.domain.state import Change, Conversation, Incoming, Writing, following

Language = Literal["es", "en"]
Standing = Literal["open", "changeable", "used", "expired"]
"""Of a survey: not answered yet, answered and still to be changed, answered for good, or over without an answer."""

LONGEST_COMMENT: Final = 2_000
_MAC: Final = 16
_TOKEN: Final = 16 + 16 + _MAC
_DIGIT = re.compile(r"\W*([1-5])(?:\ufe0f?\u20e3)?(?:\s*/\s*5)?\W*")
_STARS = re.compile(r"(?:[⭐★🌟]\ufe0f?\s*){1,5}")


@dataclass(frozen=True, slots=True)
class Resolved:
    """A resolution that may be asked about. ``agent_id`` and ``team_id``: who is credited."""

    cycle: int
    agent_id: str | None
    team_id: str | None


@dataclass(frozen=True, slots=True)
class Survey:
    """One survey that was sent. ``version`` counts its answers; 0: there is none."""

    id: str
    account_id: str
    conversation_id: str
    cycle: int
    way: SurveyWay
    agent_id: str | None
    team_id: str | None
    language: Language
    sent_at: datetime
    answer_until: datetime
    change_days: int
    rating: int | None = None
    comment: str = ""
    version: int = 0
    answered_at: datetime | None = None
    changed_at: datetime | None = None

    def standing(self, now: datetime) -> Standing:
        """What can be done with it at a moment. A survey that is over stays as it is."""
        if self.answered_at is None:
            return "open" if now < self.answer_until else "expired"
        return "changeable" if now < self.answered_at + timedelta(days=self.change_days) else "used"


def credited(actor: str, assignee_id: str | None) -> str | None:
    """Who resolved a conversation: the agent who did it; where it was a rule or a key, whoever had it."""
    kind, _, id_ = actor.partition(":")
    return id_ if kind == "agent" else assignee_id


def why_not(
    conversation: Conversation | None,
    resolved: Resolved,
    settings: SurveySettings | None,
    asked_before: datetime | None,
    now: datetime,
) -> str | None:
    """Why nobody is asked about a resolution, None when its customer is. ``asked_before``: when they were asked last."""
    if conversation is None:
        return "conversation_gone"
    state = conversation.state
    if settings is None:
        return "switched_off"
    if conversation.unresolved or state.cycle != resolved.cycle:
        return "reopened"
    # Put away: spam, or part of another one by now.
    if state.archived:
        return "archived"
    if state.contact.blocked:
        return "blocked"
    if state.source_id == nameless(state.id):
        return "erased"
    if state.first_reply_at is None:
        return "nobody_answered"
    if asked_before is not None and now < asked_before + timedelta(days=settings.again_after_days):
        return "asked_lately"
    return None


def language_for(contact_language: str | None, fallback: Language) -> Language:
    """The language to ask somebody in: theirs where we speak it."""
    spoken = (contact_language or "").lower().replace("_", "-").partition("-")[0]
    return "es" if spoken == "es" else "en" if spoken == "en" else fallback


_ASKING: Final = {
    ("link", "es"): "Gracias por escribirnos. ¿Qué tal te hemos atendido? Valóralo aquí: {link}",
    ("link", "en"): "Thank you for writing to us. How did we do? Tell us here: {link}",
    ("reply", "es"): "¿Qué tal te hemos atendido? Responde con un número del 1 (muy mal) al 5 (muy bien).",
    ("reply", "en"): "How did we do? Reply with a number from 1 (very bad) to 5 (very good).",
}
_HIDDEN: Final = {"es": "(enlace a la encuesta)", "en": "(link to the survey)"}


class Asking(NamedTuple):
    """A survey about to be sent, the id of the message that asks, and the address of its page."""

    survey: Survey
    message_id: str
    link: str


def ask(conversation: Conversation, asking: Asking, now: datetime) -> Change:
    """Ask a customer. What the team reads of that message lacks the link: whoever has it answers as the customer."""
    survey = asking.survey
    words = _ASKING[survey.way, survey.language]
    shown = words.format(link=_HIDDEN[survey.language])
    sent = writing.reply(conversation, Writing(asking.message_id, shown, "system", human=False), now)
    assert isinstance(sent.outbound, OutboundMessage)
    outbound = sent.outbound.model_copy(update={"text": words.format(link=asking.link)})
    before = sent.conversation.state
    conversation = following(sent.conversation)
    event = SurveySent(
        conversation=conversation.state,
        before=before.access,
        survey_id=survey.id,
        way=survey.way,
        agent_id=survey.agent_id,
        team_id=survey.team_id,
    )
    return Change(conversation, now, (*sent.events, event), sent.message, outbound)


def answer(
    conversation: Conversation, survey: Survey, rating: int, comment: str, now: datetime
) -> tuple[Change, Survey]:
    """The customer's answer, or another one; the same again changes nothing. The survey must take answers now."""
    if survey.version and (survey.rating, survey.comment) == (rating, comment):
        return Change(conversation, now), survey
    answered = replace(
        survey,
        rating=rating,
        comment=comment,
        version=survey.version + 1,
        answered_at=survey.answered_at or now,
        changed_at=now,
    )
    before = conversation.state
    conversation = following(conversation)
    event = SurveyAnswered(
        conversation=conversation.state,
        before=before.access,
        survey_id=survey.id,
        version=answered.version,
        rating=rating,
        previous_rating=survey.rating,
        commented=bool(comment),
        answered_at=answered.answered_at or now,
        agent_id=survey.agent_id,
        team_id=survey.team_id,
    )
    return Change(conversation, now, (event,)), answered


def answer_in_channel(
    conversation: Conversation, incoming: Incoming, survey: Survey, rating: int, now: datetime
) -> tuple[Change, Survey]:
    """A customer's message that is the answer: it joins the resolved conversation, and does not reopen it."""
    said = received(conversation, incoming, now)
    told, answered = answer(said.conversation, survey, rating, survey.comment, now)
    return Change(told.conversation, said.at, (*said.events, *told.events), said.message), answered


def takes_answer(conversation: Conversation, survey: Survey, now: datetime) -> bool:
    """Whether a customer's message may be the answer: nothing came between, and it is not too late."""
    state = conversation.state
    still = state.status == "resolved" and not state.archived and state.cycle == survey.cycle
    return still and survey.standing(now) in ("open", "changeable")


def rating_of(text: str) -> int | None:
    """The rating that a message is, when it is one and nothing else: a digit from 1 to 5, or as many stars."""
    said = text.strip()
    if len(said) > 16:
        return None
    if match := _DIGIT.fullmatch(said):
        return int(match[1])
    return sum(one in "⭐★🌟" for one in said) if said and _STARS.fullmatch(said) else None


def token(secret: bytes, account_id: str, survey_id: str) -> str:
    """What opens a survey's page: names it, and cannot be guessed."""
    named = UUID(account_id).bytes + UUID(survey_id).bytes
    return urlsafe_b64encode(named + _signature(secret, named)).decode().rstrip("=")


def read_token(given: str) -> tuple[str, str] | None:
    """The account and the survey that a token names, None for what is none; `signed` tells whether it is ours."""
    try:
        raw = urlsafe_b64decode(given + "=" * (-len(given) % 4))
    except (Error, ValueError):
        return None
    return (str(UUID(bytes=raw[:16])), str(UUID(bytes=raw[16:32]))) if len(raw) == _TOKEN else None


def signed(secret: bytes, account_id: str, survey_id: str, given: str) -> bool:
    """Whether a token is the one that we made."""
    return hmac.compare_digest(token(secret, account_id, survey_id).encode(), given.encode())


def _signature(secret: bytes, named: bytes) -> bytes:
    return hmac.new(secret, b"survey/" + named, hashlib.sha256).digest()[:_MAC]
