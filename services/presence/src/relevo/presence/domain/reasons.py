"""Why an agent's status is what it is, in words."""

from typing import Final

from relevo.contracts.presence import PresenceCause

_WORDS: Final[dict[PresenceCause, tuple[str, str]]] = {
    "manual": ("Lo eligió.", "Chosen by themselves."),
    "supervisor": ("Lo puso otra persona.", "Set by somebody else."),
    "connected": ("Está conectado.", "Connected."),
    "disconnected": ("Cerró su último dispositivo.", "Closed their last device."),
    "expired": ("Se perdió la conexión.", "The connection was lost."),
    "sign_out": ("Cerró la sesión.", "Signed out."),
    "removed": ("Ya no está en la cuenta.", "No longer in the account."),
    "initial": ("Aún no se ha conectado.", "Has not connected yet."),
    "shift_over": ("Terminó su turno.", "Their shift is over."),
    "break": ("Le tocaba un descanso.", "A break was due."),
    "idle": ("Lleva rato sin actividad.", "Nobody has been active for a while."),
}


def reason(
    cause: PresenceCause, language: str, *, open_: int | None = None, limit: int | None = None, label: str | None = None
) -> str:
    """The words for a cause; with numbers where too many conversations are the reason."""
    if cause == "capacity":
        if open_ is None or limit is None:
            return "Tiene demasiadas conversaciones." if language == "es" else "Holds too many conversations."
        many = f"{open_} de {limit}"
        return f"Tiene {many} conversaciones." if language == "es" else f"Holds {open_} of {limit} conversations."
    es, en = _WORDS[cause]
    told = es if language == "es" else en
    return f"{label}: {told[0].lower()}{told[1:]}" if label else told
