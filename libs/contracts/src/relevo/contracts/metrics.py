"""What reporting publishes: the metrics streams, a public interface."""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from relevo.contracts.base import Id, Model, Time

Unit = Literal["count", "seconds", "rating"]
Metric = Literal[
    "conversations_opened",
    "conversations_reopened",
    "conversations_resolved",
    "conversations_archived",
    "conversations_imported",
    "messages_in",
    "messages_out",
    "notes",
    "replies_delivered",
    "replies_failed",
    "first_response",
    "reply_time",
    "resolution",
    "wait_in_queue",
    "transfers",
    "rules_executed",
    "labels_added",
    "presence_seconds",
    "surveys_sent",
    "satisfaction",
    "sla_met",
    "sla_missed",
    "bot_handoffs",
    "bot_resolutions",
    "bot_takeovers",
    "offers_accepted",
    "offers_declined",
    "offers_timed_out",
]
RateName = Literal[
    "bot_resolution_rate", "bot_handoff_rate", "survey_response_rate", "sla_rate", "offer_acceptance_rate"
]


class Definition(NamedTuple):
    """What a metric's values are and when there is one, in the two languages in which reports are read."""

    unit: Unit
    es: str
    en: str


METRICS: Final[Mapping[Metric, Definition]] = {
    "conversations_opened": Definition(
        "count",
        "Una conversación empezó, con su primer mensaje.",
        "A conversation began, with its first message.",
    ),
    "conversations_reopened": Definition(
        "count",
        "Una conversación resuelta volvió a abrirse; empieza un ciclo nuevo. También al separar de nuevo una que estaba abierta al combinarla.",
        "A resolved conversation was opened again; a new cycle begins. Also when one that was open as it was merged is told apart again.",
    ),
    "conversations_resolved": Definition(
        "count",
        "Una conversación se resolvió, también al combinarla abierta con otra. Es de quien la tenía asignada; si nadie, de quien la resolvió.",
        "A conversation was resolved, also by merging it into another while it was open. It counts for its assignee; without one, for who resolved it.",
    ),
    "conversations_archived": Definition("count", "Una conversación se archivó.", "A conversation was archived."),
    "conversations_imported": Definition(
        "count",
        "Una conversación pasada llegó por importación. Cuenta cuando empezó, y en ninguna otra métrica.",
        "A past conversation came by an import. It counts when it began, and in no other metric.",
    ),
    "messages_in": Definition("count", "Llegó un mensaje de un cliente.", "A message of a customer came in."),
    "messages_out": Definition(
        "count",
        "Salió un mensaje público, de una persona o automático. Es de su autor.",
        "A public message went out, a person's or an automatic one. It counts for its author.",
    ),
    "notes": Definition("count", "Alguien escribió una nota interna.", "Somebody wrote a private note."),
    "replies_delivered": Definition(
        "count", "El canal confirmó la entrega de un mensaje.", "The channel confirmed that a message was delivered."
    ),
    "replies_failed": Definition(
        "count", "El canal no pudo entregar un mensaje.", "The channel could not deliver a message."
    ),
    "first_response": Definition(
        "seconds",
        "Desde que la conversación se abrió o se reabrió, o desde que un bot la dejó a las personas, hasta la primera respuesta pública de una persona en ese ciclo.",
        "From when the conversation was opened or reopened, or a bot left it to people, to the first public reply of a person in that cycle.",
    ),
    "reply_time": Definition(
        "seconds",
        "Desde el primer mensaje del cliente sin responder hasta la respuesta pública de una persona.",
        "From the customer's first unanswered message to the public reply of a person.",
    ),
    "resolution": Definition(
        "seconds",
        "Desde que la conversación se abrió o se reabrió hasta que se resolvió.",
        "From when the conversation was opened or reopened until it was resolved.",
    ),
    "wait_in_queue": Definition(
        "seconds",
        "Desde que la conversación entró en la cola hasta que se asignó a un agente.",
        "From when the conversation entered the queue until it was assigned to an agent.",
    ),
    "transfers": Definition(
        "count",
        "Una conversación pasó de un agente a otro o de un equipo a otro. Tomarla o soltarla no cuenta.",
        "A conversation went from one agent to another, or from one team to another. To take or leave it is none.",
    ),
    "rules_executed": Definition(
        "count", "Una regla coincidió y ordenó sus acciones.", "A rule matched, and ordered its actions."
    ),
    "labels_added": Definition(
        "count",
        "Alguien o una regla puso una etiqueta a una conversación; una por etiqueta.",
        "Somebody or a rule put a label on a conversation; one for each label.",
    ),
    "presence_seconds": Definition(
        "seconds",
        "Cuánto estuvo un agente en un estado. Se cuenta cuando el estado termina, por horas (UTC).",
        "How long an agent was in a state. Counted when the state ends, by the hour (UTC).",
    ),
    "bot_handoffs": Definition(
        "count",
        "Un bot dejó una conversación a las personas: porque el cliente lo pidió, porque no supo ayudar o porque no respondió. Que alguien la tome no cuenta.",
        "A bot left a conversation to people: the customer asked for one, it could not help, or it did not answer. That somebody takes it is none.",
    ),
    "bot_resolutions": Definition("count", "Un bot resolvió una conversación.", "A bot resolved a conversation."),
    "bot_takeovers": Definition(
        "count",
        "Una persona tomó una conversación que tenía un bot.",
        "A person took a conversation that a bot had.",
    ),
    "offers_accepted": Definition(
        "count",
        "Un agente aceptó una conversación que se le ofrecía.",
        "An agent accepted a conversation that was offered to them.",
    ),
    "offers_declined": Definition(
        "count",
        "Un agente rechazó una conversación que se le ofrecía.",
        "An agent declined a conversation that was offered to them.",
    ),
    "offers_timed_out": Definition(
        "count",
        "Un agente no respondió a tiempo a una oferta. Las que se retiraron antes no cuentan.",
        "An agent did not answer an offer in time. Those that were withdrawn before do not count.",
    ),
    "surveys_sent": Definition(
        "count",
        "Se pidió a un cliente que valorase la atención. Es de quien resolvió la conversación.",
        "A customer was asked to rate how they were served. It counts for who resolved the conversation.",
    ),
    "satisfaction": Definition(
        "rating",
        "Un cliente valoró la atención de 1 a 5. Es de quien resolvió la conversación; si cambia de opinión, cuenta la última.",
        "A customer rated how they were served, 1 to 5. It counts for who resolved the conversation; changed, the last counts.",
    ),
    "sla_met": Definition(
        "count",
        "Un plazo de un acuerdo de servicio se cumplió (primera respuesta, respuesta o resolución). Es de quien tenía la conversación.",
        "A time of a service level was kept (first reply, reply or resolution). It counts for who had the conversation.",
    ),
    "sla_missed": Definition(
        "count",
        "Un plazo de un acuerdo de servicio no se cumplió; cuenta cuando venció. Es de quien tenía la conversación.",
        "A time of a service level was not kept; counted when it was due. It counts for who had the conversation.",
    ),
}
"""Every metric, in the order of reports. A time's value is clock time; its business value counts business hours only."""

BUSINESS_TIMES: Final[frozenset[Metric]] = frozenset({"first_response", "reply_time", "resolution", "wait_in_queue"})
"""The metrics that are also measured in business time."""


NAMES: Final[Mapping[Metric, tuple[str, str]]] = {
    "conversations_opened": ("Conversaciones abiertas", "Conversations opened"),
    "conversations_reopened": ("Conversaciones reabiertas", "Conversations reopened"),
    "conversations_resolved": ("Conversaciones resueltas", "Conversations resolved"),
    "conversations_archived": ("Conversaciones archivadas", "Conversations archived"),
    "conversations_imported": ("Conversaciones importadas", "Conversations imported"),
    "messages_in": ("Mensajes recibidos", "Messages received"),
    "messages_out": ("Mensajes enviados", "Messages sent"),
    "notes": ("Notas internas", "Private notes"),
    "replies_delivered": ("Respuestas entregadas", "Replies delivered"),
    "replies_failed": ("Respuestas fallidas", "Replies failed"),
    "first_response": ("Primera respuesta", "First response"),
    "reply_time": ("Tiempo de respuesta", "Reply time"),
    "resolution": ("Resolución", "Resolution"),
    "wait_in_queue": ("Espera en cola", "Wait in queue"),
    "transfers": ("Transferencias", "Transfers"),
    "rules_executed": ("Reglas ejecutadas", "Rules executed"),
    "labels_added": ("Etiquetas puestas", "Labels added"),
    "bot_handoffs": ("Pasadas por el bot", "Handed over by the bot"),
    "bot_resolutions": ("Resueltas por el bot", "Resolved by the bot"),
    "bot_takeovers": ("Tomadas del bot", "Taken from the bot"),
    "offers_accepted": ("Ofertas aceptadas", "Offers accepted"),
    "offers_declined": ("Ofertas rechazadas", "Offers declined"),
    "offers_timed_out": ("Ofertas sin respuesta", "Offers not answered"),
    "surveys_sent": ("Encuestas enviadas", "Surveys sent"),
    "satisfaction": ("Satisfacción", "Satisfaction"),
    "presence_seconds": ("Presencia", "Presence"),
    "sla_met": ("Plazos cumplidos", "Service levels met"),
    "sla_missed": ("Plazos incumplidos", "Service levels missed"),
}
"""What people call each metric, in Spanish and English."""


class Rate(NamedTuple):
    """How many of something are of one kind: the number of facts of `part` by that of all of `whole`, in the same period."""

    part: Metric
    whole: tuple[Metric, ...]
    name: tuple[str, str]
    es: str
    en: str


_BOTS_END: Final[tuple[Metric, ...]] = ("bot_resolutions", "bot_handoffs", "bot_takeovers")
RATES: Final[Mapping[RateName, Rate]] = {
    "bot_resolution_rate": Rate(
        "bot_resolutions",
        _BOTS_END,
        ("Tasa de resolución del bot", "Bot resolution rate"),
        "De las conversaciones que dejaron de ser de un bot (las resolvió, las pasó o alguien las tomó), la parte que resolvió él.",
        "Of the conversations that ceased to be a bot's (it resolved them, handed them over, or somebody took them), the part that it resolved.",
    ),
    "bot_handoff_rate": Rate(
        "bot_handoffs",
        _BOTS_END,
        ("Tasa de traspaso del bot", "Bot handoff rate"),
        "De las conversaciones que dejaron de ser de un bot, la parte que dejó a las personas.",
        "Of the conversations that ceased to be a bot's, the part that it left to people.",
    ),
    "survey_response_rate": Rate(
        "satisfaction",
        ("surveys_sent",),
        ("Tasa de respuesta a encuestas", "Survey response rate"),
        "Cuántas valoraciones llegaron por cada encuesta enviada en el mismo periodo; a lo que se envió antes también se responde después.",
        "How many ratings came for each survey sent in the same period; what was sent before it may be answered in it.",
    ),
    "sla_rate": Rate(
        "sla_met",
        ("sla_met", "sla_missed"),
        ("Cumplimiento de plazos", "Service levels kept"),
        "De los plazos de los acuerdos de servicio que terminaron, la parte que se cumplió.",
        "Of the times of service levels that ended, the part that was kept.",
    ),
    "offer_acceptance_rate": Rate(
        "offers_accepted",
        ("offers_accepted", "offers_declined", "offers_timed_out"),
        ("Aceptación de ofertas", "Offers accepted, of all"),
        "De las ofertas que se aceptaron, se rechazaron o quedaron sin respuesta, la parte que se aceptó.",
        "Of the offers that were accepted, declined or not answered, the part that was accepted.",
    ),
}
"""What reports divide from counts; consumers of the stream divide the same. Where `part` is not among `whole` it may be more
than 1: more ratings came in a period than surveys were sent in it. Null where nothing is to be divided by."""

UNLABELLED: Final[frozenset[Metric]] = frozenset(
    {
        "wait_in_queue",
        "rules_executed",
        "presence_seconds",
        "sla_met",
        "sla_missed",
        "offers_accepted",
        "offers_declined",
        "offers_timed_out",
    }
)
"""What is not told by label: those who tell of it know nothing of labels."""

WITHOUT_CONVERSATION: Final[frozenset[Metric]] = frozenset({"presence_seconds"})
"""What is of no conversation at all."""

BY_LABEL: Final = {
    "es": (
        "Con una etiqueta cuenta lo que ocurrió mientras la conversación la tenía, y también lo que ocurrió antes en el "
        "mismo ciclo (desde que se abrió o se reabrió), porque se suele etiquetar al leer. Ponerla no cambia los ciclos "
        "anteriores, y quitarla no cambia lo que ya contó. Con varias etiquetas, una conversación cuenta en cada una."
    ),
    "en": (
        "What happened while the conversation had the label counts for it, and also what had happened before in the "
        "same cycle (since it was opened or reopened), since people label as they read. Putting it on changes no earlier "
        "cycle, and taking it off changes nothing that has counted. A conversation with several labels counts for each."
    ),
}
"""What counts for a label, in the two languages in which reports are read."""


class Dimensions(Model):
    """What was true when it happened; later changes alter nothing."""

    agent_id: Id | None = None
    team_id: Id | None = None
    inbox_id: Id | None = None
    channel: str | None = None
    labels: tuple[str, ...] = ()
    priority: str | None = None
    language: str | None = None
    state: str | None = None
    rule_id: Id | None = None


class Fact(Model):
    """One thing that happened. ``value`` is 1 for counts, seconds for times, 1 to 5 for ratings; ``at`` is when it happened.

    ``fact_id`` is derived from the causing event and the metric: a fact that is seen twice is the same fact. One that
    ``replaces`` another, of the same moment, stands in its place: that other, of ``replaced_value``, counts no more.
    ``business_value`` is the business time of it in seconds, by that version of that calendar; None: not measured.
    """

    fact_id: Id
    metric: Metric
    unit: Unit
    value: float
    business_value: float | None = None
    calendar_id: Id | None = None
    calendar_version: int | None = None
    at: Time
    start: Time | None = None
    conversation_id: Id | None = None
    cause_event_id: Id
    dimensions: Dimensions = Dimensions()
    replaces: Id | None = None
    replaced_value: float | None = None


class RollupDelta(Model):
    """What a minute's total of one metric grew by. Deltas of all messages add up to the report.

    A fact that replaces another adds the difference to the sum and nothing to the count.
    ``business_count`` of them were measured in business time too, ``business_sum`` is their total in seconds.
    """

    metric: Metric
    minute: Time
    count: int
    sum: float
    unit: Unit
    business_count: int = 0
    business_sum: float = 0.0


class Gauge(Model):
    """A live figure of the account, last value wins."""

    gauge: str
    value: float
    at: Time
