"""What identity refuses, in words."""

from collections.abc import Sequence
from datetime import timedelta

from relevo.chassis.problems import FieldError, Problem, unavailable
from relevo.identity.domain.grants import Refusal
from relevo.identity.domain.holidays import Fault
from relevo.identity.domain.sign_in import MAX_PASSWORD, MIN_PASSWORD
from relevo.kernel.business_time import CalendarError

_REFUSALS: dict[str, tuple[int, str, str]] = {
    "not_held": (
        403,
        "No puedes dar lo que tú no tienes: {detail}.",
        "You cannot give what you do not hold yourself: {detail}.",
    ),
    "outranked": (
        403,
        "Tiene más permisos que tú: pídeselo a un administrador.",
        "It holds more than you do: ask an administrator.",
    ),
    "last_administrator": (
        409,
        "Es el último administrador: nombra antes a otro.",
        "This is the last administrator: appoint another one first.",
    ),
    "role_not_editable": (
        409,
        "Este rol viene con Relevo y no se puede cambiar ni borrar así: crea uno propio.",
        "This role comes with Relevo and cannot be changed or removed so: create one of your own.",
    ),
    "predefined_role_keeps_name": (
        409,
        "Un rol que viene con Relevo conserva su nombre.",
        "A role that comes with Relevo keeps its name.",
    ),
    "role_in_use": (
        409,
        "Hay agentes con este rol ({detail}): dales antes otro.",
        "Agents have this role ({detail}): give them another one first.",
    ),
}
_PASSWORD_FAULTS = {
    "password_too_short": (
        f"Es demasiado corta: al menos {MIN_PASSWORD} caracteres.",
        f"Too short: at least {MIN_PASSWORD} characters.",
    ),
    "password_too_long": (
        f"Es demasiado larga: como mucho {MAX_PASSWORD} caracteres.",
        f"Too long: at most {MAX_PASSWORD} characters.",
    ),
    "password_is_the_address": (
        "No puede ser la dirección de correo: elige otra.",
        "It must not be the e-mail address: choose another one.",
    ),
}
_THINGS = {
    "account": ("esa cuenta", "such account"),
    "account_deletion": ("ninguna petición de borrar la cuenta", "request to delete the account"),
    "agent": ("ese agente", "such agent"),
    "team": ("ese equipo", "such team"),
    "role": ("ese rol", "such role"),
    "session": ("esa sesión abierta", "such open session"),
    "inbox": ("esa bandeja", "such inbox"),
    "calendar": ("ese calendario", "such calendar"),
    "api_key": ("esa clave", "such key"),
    "credential": ("esa credencial", "such credential"),
}


def refused(refusal: Refusal) -> Problem:
    """A decision of the domain as an answer."""
    status, es, en = _REFUSALS[refusal.code]
    es, en = es.format(detail=refusal.detail), en.format(detail=refusal.detail)
    errors = (FieldError(refusal.pointer, es=es, en=en),) if refusal.pointer else ()
    return Problem(status, refusal.code, es=es, en=en, errors=errors)


def not_found(thing: str) -> Problem:
    es, en = _THINGS[thing]
    return Problem(404, f"{thing}_not_found", es=f"No existe {es}.", en=f"There is no {en}.")


def unknown(thing: str, pointer: str, ids: list[str]) -> Problem:
    """422: a field of the body names what is not there."""
    es, en = _THINGS[thing]
    shown = ", ".join(ids)
    return Problem(
        422,
        f"{thing}_unknown",
        es=f"No existe {es}: {shown}.",
        en=f"There is no {en}: {shown}.",
        errors=(FieldError(pointer, es=f"No existe {es}: {shown}.", en=f"There is no {en}: {shown}."),),
    )


def taken(code: str, pointer: str, *, es: str, en: str) -> Problem:
    """409: a value that must be unique is not."""
    return Problem(409, code, es=es, en=en, errors=(FieldError(pointer, es=es, en=en),))


def name_taken(pointer: str = "/name") -> Problem:
    return taken(
        "name_taken",
        pointer,
        es="Ya hay otro con ese nombre: elige uno distinto.",
        en="There is another one of that name: choose a different one.",
    )


_CALENDAR_FAULTS = {
    "opens": (
        "No es una hora de apertura: escribe horas y minutos, de 00:00 a 23:59.",
        "Not an opening time: write hours and minutes, 00:00 to 23:59.",
    ),
    "closes": (
        "No es una hora de cierre: escribe horas y minutos, de 00:00 a 24:00.",
        "Not a closing time: write hours and minutes, 00:00 to 24:00.",
    ),
    "date": (
        "No es una fecha, o ya está: escríbela una vez, como 2026-12-25.",
        "Not a date, or there already: write it once, as 2026-12-25.",
    ),
}


def bad_calendar(refused: CalendarError) -> Problem:
    """422: hours that are none, named by their pointer."""
    es, en = _CALENDAR_FAULTS.get(
        refused.path.rpartition("/")[2],
        ("El día tiene demasiados intervalos: une los que se tocan.", f"{refused.reason} {refused.mend}"),
    )
    return _invalid(FieldError(refused.path, es=es, en=en))


def bad_special_days(faults: Sequence[Fault]) -> Problem:
    """422: lines of a text that cannot be read."""
    return _invalid(
        *(FieldError("/text", es=f"Línea {one.line}: {one.es}", en=f"Line {one.line}: {one.en}") for one in faults)
    )


def too_many_calendars(most: int) -> Problem:
    return Problem(
        409,
        "too_many_calendars",
        es=f"Una cuenta tiene como mucho {most} calendarios: borra antes uno.",
        en=f"An account has at most {most} calendars: remove one first.",
    )


def far_from_any_use(pointer: str, first: int, last: int) -> Problem:
    """422: a moment too long ago or too far away."""
    es = f"Debe estar entre los años {first} y {last}."
    return _invalid(FieldError(pointer, es=es, en=f"Must lie between the years {first} and {last}."))


def _invalid(*errors: FieldError) -> Problem:
    return Problem(
        422, "validation_failed", es="Hay campos que corregir.", en="Some fields must be mended.", errors=errors
    )


def email_taken() -> Problem:
    return taken(
        "email_taken",
        "/email",
        es="Ya hay un agente con esa dirección de correo.",
        en="There is an agent with that e-mail address already.",
    )


def weak_password(fault: str, pointer: str) -> Problem:
    es, en = _PASSWORD_FAULTS[fault]
    return Problem(422, fault, es=es, en=en, errors=(FieldError(pointer, es=es, en=en),))


def wrong_credentials() -> Problem:
    """The one answer to an unknown address, an agent without password, one who was removed, and a wrong password."""
    return Problem(
        401,
        "wrong_credentials",
        es="La dirección o la contraseña no son correctas.",
        en="The address or the password is not right.",
    )


def wrong_password(pointer: str) -> Problem:
    es, en = "No es tu contraseña actual.", "This is not your present password."
    return Problem(403, "wrong_password", es=es, en=en, errors=(FieldError(pointer, es=es, en=en),))


def not_the_accounts_name() -> Problem:
    """422: whoever deletes an account writes its name."""
    es = "No es el nombre de la cuenta: escríbelo tal como está en los ajustes."
    en = "This is not the account's name: write it as the settings have it."
    return Problem(422, "not_the_accounts_name", es=es, en=en, errors=(FieldError("/name", es=es, en=en),))


def second_factor_needed() -> Problem:
    """The password is right; the same request with a code goes on."""
    return Problem(
        401,
        "second_factor_needed",
        es="Falta el código de tu aplicación de verificación: repite la petición con «code».",
        en="The code of your authenticator app is missing: send the request again with `code`.",
    )


def wrong_code(status: int) -> Problem:
    es = "El código no es correcto, o ya se usó: espera al siguiente."
    en = "The code is not right, or was used already: wait for the next one."
    return Problem(status, "wrong_code", es=es, en=en, errors=(FieldError("/code", es=es, en=en),))


def second_factor_on() -> Problem:
    return Problem(
        409,
        "second_factor_on",
        es="La verificación en dos pasos ya está activada: desactívala antes.",
        en="Two-step verification is on already: switch it off first.",
    )


def second_factor_off() -> Problem:
    return Problem(
        409,
        "second_factor_off",
        es="La verificación en dos pasos no está activada: empieza por POST /me/second-factor.",
        en="Two-step verification is not on: begin with POST /me/second-factor.",
    )


def not_oneself() -> Problem:
    return Problem(
        403,
        "not_oneself",
        es="Eso no se hace con uno mismo: desactívala en tu perfil, con un código.",
        en="Not upon oneself: switch it off in your profile, with a code.",
    )


def oidc_off() -> Problem:
    return Problem(
        404,
        "oidc_off",
        es="Aquí no se entra con un proveedor de identidad: usa dirección y contraseña.",
        en="There is no identity provider to sign in at here: use address and password.",
    )


def oidc_unavailable() -> Problem:
    return unavailable(
        "oidc_unavailable",
        es="El proveedor de identidad no responde: vuelve a intentarlo o entra con contraseña.",
        en="The identity provider does not answer: try again, or sign in with a password.",
        retry_after=10,
    )


def oidc_over() -> Problem:
    """The one answer to a sign-in that never was, is done, ran out, or began in another browser."""
    return Problem(
        410,
        "oidc_over",
        es="Este inicio de sesión ya no vale: empieza de nuevo.",
        en="This sign-in is not good any more: begin again.",
    )


def oidc_refused() -> Problem:
    return Problem(
        401,
        "oidc_refused",
        es="El proveedor de identidad no confirma quién eres con una dirección verificada: empieza de nuevo.",
        en="The identity provider does not confirm who you are with a verified address: begin again.",
    )


def oidc_nobody() -> Problem:
    return Problem(
        401,
        "oidc_nobody",
        es="Nadie tiene aquí esa dirección, o es de otra persona en el proveedor: pide que te inviten.",
        en="Nobody has that address here, or it is somebody else's at the provider: ask to be invited.",
    )


def too_many_attempts(wait: timedelta) -> Problem:
    minutes = max(1, round(wait.total_seconds() / 60))
    return Problem(
        429,
        "too_many_attempts",
        es=f"Demasiados intentos: vuelve a probar dentro de {minutes} min.",
        en=f"Too many attempts: try again in {minutes} min.",
        headers={"Retry-After": str(int(wait.total_seconds()) + 1)},
    )


def link_over() -> Problem:
    """The one answer to a link that never was, was used, was replaced, or ran out."""
    return Problem(
        410,
        "link_over",
        es="El enlace ya no vale: se usó, caducó o se envió otro. Pide uno nuevo.",
        en="The link is not good any more: it was used, ran out, or another was sent. Ask for a new one.",
    )


def sign_up_closed() -> Problem:
    return Problem(
        404,
        "sign_up_closed",
        es="Aquí nadie puede darse de alta por su cuenta: pide una invitación a quien administra la tuya.",
        en="Nobody can sign up here by themselves: ask whoever administers your account for an invitation.",
    )


def here_already() -> Problem:
    return Problem(
        409,
        "here_already",
        es="Ya estás en esa cuenta: para otra sesión en ella, inicia sesión.",
        en="You are in that account already: for another session there, sign in.",
    )


def agent_confirmed() -> Problem:
    return Problem(
        409,
        "agent_confirmed",
        es="Esta persona ya aceptó la invitación: para quitarla, elimina el agente.",
        en="This person has accepted the invitation already: to take them out, remove the agent.",
    )


def session_over() -> Problem:
    """Any refresh token that is no longer good: unknown, used, expired, of an ended session."""
    return Problem(
        401, "session_over", es="La sesión ha terminado: entra de nuevo.", en="The session is over: sign in."
    )


def bus_unavailable() -> Problem:
    return unavailable(
        "bus_unavailable",
        es="El bus de mensajes no responde: vuelve a intentarlo.",
        en="The message bus does not answer: try again.",
        retry_after=5,
    )


def revocation_under_way() -> Problem:
    return unavailable(
        "revocation_under_way",
        es="La credencial está anulada; el bus aún no responde y se le dirá en cuanto vuelva.",
        en="The credential is revoked; the bus does not answer yet and will be told as soon as it does.",
        retry_after=5,
    )


def gone() -> Problem:
    """Whoever asked was removed while asking."""
    return Problem(401, "session_ended", es="La sesión ha terminado.", en="The session has ended.")
