"""The short guide beside the status menu: what a status does, how shifts count, how the queue moves. Both languages."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Topic:
    """One thing to know."""

    topic: str
    title_es: str
    title_en: str
    es: str
    en: str


GUIDE: Final = (
    Topic(
        "status",
        "Tu estado",
        "Your status",
        "Disponible: recibes conversaciones. Ocupado: solo si la política lo permite y nadie está disponible. Ausente o "
        "desconectado: ninguna nueva, y conservas las que tienes. Elige tu estado cuando quieras, también hasta una "
        "hora; manda lo que elijas sobre lo automático, salvo que no estés conectado.",
        "Available: you get conversations. Busy: only where the policy says so and nobody is available. Away or offline: "
        "no new ones, and you keep those that you have. Choose your status whenever you like, also until a time; what "
        "you choose goes before what is automatic, unless you are not connected.",
    ),
    Topic(
        "shift",
        "Tu turno",
        "Your shift",
        "Si tienes un horario propio cuenta ese; si no, el de tus equipos. Fuera de turno conservas tu estado, pero no "
        "recibes conversaciones, salvo que la política lo permita. Una ausencia cierra esos días.",
        "If you have a schedule of your own, that one counts; else your teams'. Off shift you keep your status, but get "
        "no conversations unless the policy says so. An absence closes those days.",
    ),
    Topic(
        "queue",
        "La cola",
        "The queue",
        "Las conversaciones que nadie puede tomar esperan: primero las de mayor prioridad, y entre ellas la que más "
        "espera. En cuanto alguien queda libre, recibe la siguiente. Nadie recibe más de las que le caben.",
        "Conversations that nobody can take wait: the higher priority first, and among those whoever has waited longest. "
        "As soon as somebody is free they get the next one. Nobody gets more than they have room for.",
    ),
)
