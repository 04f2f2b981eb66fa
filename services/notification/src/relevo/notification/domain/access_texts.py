"""What people are told about how they get in: invitations, links, and that something about their access has changed."""

from collections.abc import Mapping
from typing import Final, Literal

_NOT_YOU_ES: Final = "Si no has sido tú, avisa a quien administra {account}."
_NOT_YOU_EN: Final = "If this was not you, tell whoever administers {account}."

ACCESS: Final[Mapping[str, Mapping[Literal["es", "en"], tuple[str, str]]]] = {
    "invitation": {
        "es": (
            "{inviter} te invita a {account} en Relevo",
            (
                "Hola, {name}:\n\nPara aceptar y elegir tu contraseña, abre: {link}\n\n"
                "El enlace vale una vez, hasta {until}."
            ),
        ),
        "en": (
            "{inviter} invites you to {account} on Relevo",
            (
                "Hello {name},\n\nTo accept and choose your password, open: {link}\n\n"
                "The link is good once, until {until}."
            ),
        ),
    },
    "sign_up": {
        "es": (
            "Confirma tu dirección para crear tu cuenta de Relevo",
            (
                "Hola:\n\nPara confirmar esta dirección y elegir la contraseña de tu cuenta, abre: {link}\n\n"
                "El enlace vale una vez, hasta {until}. Si no has pedido ninguna cuenta, no hagas nada: sin el enlace no se crea."
            ),
        ),
        "en": (
            "Confirm your address to make your Relevo account",
            (
                "Hello,\n\nTo confirm this address and choose the password of your account, open: {link}\n\n"
                "The link is good once, until {until}. If you asked for no account, do nothing: without the link none is made."
            ),
        ),
    },
    "account_deletion_asked": {
        "es": (
            "{by} ha pedido borrar la cuenta {account}",
            (
                "Todo lo de {account} se borrará para siempre el {until}. Hasta entonces todo funciona, y quien administra la "
                "cuenta puede anularlo en los ajustes. Si alguien debe conservar los datos, exportadlos antes."
            ),
        ),
        "en": (
            "{by} has asked for the account {account} to be deleted",
            (
                "Everything of {account} will be deleted for ever on {until}. Until then everything works, and whoever "
                "administers the account can call it off in the settings. If anybody needs the data, export them before."
            ),
        ),
    },
    "account_deletion_soon": {
        "es": (
            "La cuenta {account} se borrará pronto",
            "Todo lo de {account} se borrará para siempre el {until}, como pidió {by}. Aún se puede anular en los ajustes.",
        ),
        "en": (
            "The account {account} will be deleted soon",
            "Everything of {account} will be deleted for ever on {until}, as {by} asked. It can still be called off in the settings.",
        ),
    },
    "account_deletion_called_off": {
        "es": ("La cuenta {account} no se borrará", "{by} ha anulado el borrado de {account}. Todo sigue igual."),
        "en": (
            "The account {account} will not be deleted",
            "{by} has called off the deletion of {account}. Nothing changes.",
        ),
    },
    "password_reset": {
        "es": (
            "Restablecer tu contraseña de Relevo ({account})",
            (
                "Hola, {name}:\n\nPara elegir otra contraseña, abre: {link}\n\nEl enlace vale una vez, hasta {until}. "
                "Si no lo has pedido, no hagas nada: tu contraseña sigue igual."
            ),
        ),
        "en": (
            "Reset your Relevo password ({account})",
            (
                "Hello {name},\n\nTo choose another password, open: {link}\n\nThe link is good once, until {until}. "
                "If you did not ask for it, do nothing: your password stays as it is."
            ),
        ),
    },
    "email_change": {
        "es": (
            "Confirma tu dirección de correo en Relevo",
            (
                "Hola, {name}:\n\nPara que esta sea tu dirección en {account}, abre: {link}\n\n"
                "El enlace vale una vez, hasta {until}. Si no sabes de qué se trata, no hagas nada."
            ),
        ),
        "en": (
            "Confirm your e-mail address on Relevo",
            (
                "Hello {name},\n\nTo make this your address at {account}, open: {link}\n\n"
                "The link is good once, until {until}. If you do not know what this is about, do nothing."
            ),
        ),
    },
    "password_changed": {
        "es": (
            "Tu contraseña de Relevo ha cambiado",
            f"Hola, {{name}}:\n\nTu contraseña en {{account}} se cambió el {{at}}. {_NOT_YOU_ES}",
        ),
        "en": (
            "Your Relevo password has changed",
            f"Hello {{name}},\n\nYour password at {{account}} was changed on {{at}}. {_NOT_YOU_EN}",
        ),
    },
    "email_changed": {
        "es": (
            "Tu dirección de correo en Relevo ha cambiado",
            f"Hola, {{name}}:\n\nTu dirección en {{account}} se cambió por otra el {{at}}. {_NOT_YOU_ES}",
        ),
        "en": (
            "Your e-mail address on Relevo has changed",
            f"Hello {{name}},\n\nYour address at {{account}} was changed to another one on {{at}}. {_NOT_YOU_EN}",
        ),
    },
    "second_factor_on": {
        "es": (
            "Verificación en dos pasos activada en Relevo",
            f"Hola, {{name}}:\n\nTu acceso a {{account}} pide un código desde el {{at}}. {_NOT_YOU_ES}",
        ),
        "en": (
            "Two-step verification is on at Relevo",
            f"Hello {{name}},\n\nSigning in to {{account}} asks for a code since {{at}}. {_NOT_YOU_EN}",
        ),
    },
    "second_factor_off": {
        "es": (
            "Verificación en dos pasos desactivada en Relevo",
            f"Hola, {{name}}:\n\nTu acceso a {{account}} no pide ya ningún código desde el {{at}}. {_NOT_YOU_ES}",
        ),
        "en": (
            "Two-step verification is off at Relevo",
            f"Hello {{name}},\n\nSigning in to {{account}} asks for no code any more since {{at}}. {_NOT_YOU_EN}",
        ),
    },
}
