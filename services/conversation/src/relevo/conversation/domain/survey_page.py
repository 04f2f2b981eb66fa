"""The page on which a customer answers: whole in one answer, without scripts, in Spanish or English."""

import base64
import hashlib
from collections.abc import Mapping
from html import escape
from typing import Final, Literal

from relevo.conversation.domain.surveys import LONGEST_COMMENT, Language, Survey

Shown = Literal["form", "thanks", "used", "expired", "unknown", "busy"]

_STYLE: Final = """
:root{color-scheme:light dark;--ink:#1c2430;--soft:#5a6675;--paper:#fff;--ground:#eef1f5;--line:#c9d1db;--accent:#1f5fd0;
--accent-ink:#fff;--tint:#e8f0fe;--bad:#b3261e;--good:#1a7f4b}
@media (prefers-color-scheme:dark){:root{--ink:#eef2f7;--soft:#a9b4c2;--paper:#1b212b;--ground:#11151c;--line:#3b4656;
--accent:#8ab4f8;--accent-ink:#0b1a33;--tint:#22304a;--bad:#f2b8b5;--good:#7ddba8}}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;display:flex;flex-direction:column;align-items:center;justify-content:center;
padding:1.25rem;background:var(--ground);color:var(--ink);font:1rem/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{width:100%;max-width:34rem;background:var(--paper);border-radius:1rem;padding:2rem;
box-shadow:0 1px 3px rgb(0 0 0/.12),0 8px 28px rgb(0 0 0/.08)}
.from{margin:0 0 .25rem;color:var(--soft);font-weight:600;overflow-wrap:anywhere}
h1{margin:0 0 1.25rem;font-size:1.5rem;line-height:1.25}
p{margin:0 0 1rem}
fieldset{border:0;margin:0 0 1.5rem;padding:0;min-width:0}
legend{padding:0;margin:0 0 .75rem;font-weight:600}
.scale{display:grid;grid-template-columns:repeat(5,1fr);gap:.5rem}
.scale label{position:relative;display:flex;flex-direction:column;align-items:center;gap:.35rem;padding:.75rem .25rem;
border:2px solid var(--line);border-radius:.75rem;text-align:center;font-size:.8rem;line-height:1.2;color:var(--soft);cursor:pointer}
.scale label:hover{border-color:var(--accent)}
.scale input{position:absolute;inset:0;width:100%;height:100%;margin:0;opacity:0;cursor:pointer}
.scale svg{width:2.4rem;height:2.4rem;fill:none;stroke:currentColor;stroke-width:2;stroke-linecap:round}
.scale b{font-size:1.05rem;color:var(--ink)}
.scale label:has(input:checked){border-color:var(--accent);background:var(--tint);color:var(--accent)}
.scale label:has(input:focus-visible){outline:3px solid var(--accent);outline-offset:2px}
.comment{display:block;margin:0 0 .5rem;font-weight:600}
textarea{display:block;width:100%;min-height:7rem;padding:.75rem;border:2px solid var(--line);border-radius:.75rem;
background:transparent;color:inherit;font:inherit;resize:vertical}
textarea:focus-visible{outline:3px solid var(--accent);outline-offset:2px;border-color:var(--accent)}
.hint{margin:.35rem 0 1.5rem;font-size:.85rem;color:var(--soft)}
button{width:100%;padding:.85rem 1rem;border:0;border-radius:.75rem;background:var(--accent);color:var(--accent-ink);
font:inherit;font-weight:600;cursor:pointer}
button:hover{filter:brightness(1.08)}
button:focus-visible,a:focus-visible{outline:3px solid var(--accent);outline-offset:3px}
.told{padding:.75rem 1rem;border-radius:0 .5rem .5rem 0;border-left:4px solid;margin:0 0 1.25rem}
.bad{border-color:var(--bad);color:var(--bad)}
.good{border-color:var(--good);color:var(--good);font-weight:600}
.state{text-align:center}
.state svg{width:4rem;height:4rem;fill:none;stroke:var(--accent);stroke-width:2;stroke-linecap:round;stroke-linejoin:round}
footer{margin-top:1.25rem;font-size:.9rem}
a{color:var(--accent)}
@media (max-width:26rem){main{padding:1.25rem}.scale{gap:.3rem}.scale label{font-size:.7rem}.scale svg{width:1.9rem;height:1.9rem}}
@media (prefers-reduced-motion:no-preference){.scale label{transition:border-color .12s,background .12s}}
"""
_DIGEST: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_DIGEST}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
"""The page's Content-Security-Policy: its own style and nothing else."""

_ES: Final[Mapping[str, str]] = {
    "title": "Valora la atención",
    "question": "¿Qué tal te hemos atendido?",
    "legend": "Tu valoración, del 1 al 5",
    "1": "Muy mal",
    "2": "Mal",
    "3": "Regular",
    "4": "Bien",
    "5": "Muy bien",
    "comment": "¿Quieres contarnos algo más? (opcional)",
    "hint": f"Como mucho {LONGEST_COMMENT} caracteres. Lo leerá nuestro equipo.",
    "send": "Enviar valoración",
    "again": "Cambiar mi valoración",
    "thanks": "¡Gracias! Hemos guardado tu valoración.",
    "changeable": "Si cambias de opinión, puedes corregirla aquí durante unos días.",
    "missing": "Elige una valoración del 1 al 5 antes de enviar.",
    "long": f"El comentario es demasiado largo: deja como mucho {LONGEST_COMMENT} caracteres.",
    "used": "Ya nos diste tu opinión",
    "used_more": "Tu valoración está guardada y ya no se puede cambiar. ¡Gracias por tu tiempo!",
    "expired": "Esta encuesta ha terminado",
    "expired_more": "El plazo para responder ha pasado. Si necesitas algo, escríbenos de nuevo por el mismo medio.",
    "unknown": "No encontramos esta encuesta",
    "unknown_more": "Comprueba que has abierto el enlace completo, tal como te llegó en el mensaje.",
    "busy": "Demasiados intentos seguidos",
    "busy_more": "Espera un momento y vuelve a abrir el enlace.",
    "other": "English",
}
_EN: Final[Mapping[str, str]] = {
    "title": "Rate the service",
    "question": "How did we do?",
    "legend": "Your rating, from 1 to 5",
    "1": "Very bad",
    "2": "Bad",
    "3": "Fair",
    "4": "Good",
    "5": "Very good",
    "comment": "Would you like to tell us more? (optional)",
    "hint": f"At most {LONGEST_COMMENT} characters. Our team will read it.",
    "send": "Send rating",
    "again": "Change my rating",
    "thanks": "Thank you! Your rating is saved.",
    "changeable": "If you change your mind, you can correct it here for a few days.",
    "missing": "Choose a rating from 1 to 5 before you send.",
    "long": f"The comment is too long: leave at most {LONGEST_COMMENT} characters.",
    "used": "You have told us already",
    "used_more": "Your rating is saved and cannot be changed any more. Thank you for your time!",
    "expired": "This survey has ended",
    "expired_more": "The time to answer has passed. If you need anything, write to us again the same way.",
    "unknown": "We cannot find this survey",
    "unknown_more": "Check that you opened the whole link, just as it came in the message.",
    "busy": "Too many attempts in a row",
    "busy_more": "Wait a moment and open the link again.",
    "other": "Español",
}
_WORDS: Final = {"es": _ES, "en": _EN}

# How the mouth of each face bends, from 1 to 5.
_MOUTHS: Final = ("M8 17q4-5 8 0", "M8 16.5q4-2.5 8 0", "M8 16h8", "M8 15q4 2.5 8 0", "M8 14q4 5.5 8 0")
_TICK: Final = (
    '<svg viewBox="0 0 24 24" aria-hidden="true"><circle cx="12" cy="12" r="10"/><path d="M7.5 12.5l3 3 6-7"/></svg>'
)
_CLOCK: Final = (
    '<svg viewBox="0 0 24 24" aria-hidden="true"><circle cx="12" cy="12" r="10"/><path d="M12 7v5l3 2"/></svg>'
)


def page(
    shown: Shown,
    language: Language,
    *,
    company: str = "",
    survey: Survey | None = None,
    rating: int | None = None,
    comment: str | None = None,
    fault: Literal["missing", "long"] | None = None,
) -> str:
    """The page. ``rating`` and ``comment`` are what the form begins with; ``fault`` what was wrong with what was sent."""
    words = _WORDS[language]
    if shown in ("form", "thanks"):
        given = rating if rating is not None else survey.rating if survey else None
        said = comment if comment is not None else survey.comment if survey else ""
        answered = bool(survey and survey.version)
        inner = _form(words, given, said, fault, answered=answered, thanked=shown == "thanks")
    else:
        inner = _state(words, shown)
    other = "en" if language == "es" else "es"
    company_line = f'<p class="from">{escape(company)}</p>' if company else ""
    heading = words["question"] if shown in ("form", "thanks") else words[shown]
    title = f"{words['title']} · {company}" if company else words["title"]
    centred = ' class="state"' if shown not in ("form", "thanks") else ""
    return (
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="robots" content="noindex">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main{centred}>{company_line}<h1>{heading}</h1>{inner}</main>"
        f'<footer><a href="?lang={other}" hreflang="{other}" lang="{other}">{words["other"]}</a></footer></body></html>'
    )


def _state(words: Mapping[str, str], shown: Shown) -> str:
    return f"{_TICK if shown == 'used' else _CLOCK}<p>{words[f'{shown}_more']}</p>"


def _form(
    words: Mapping[str, str], rating: int | None, comment: str, fault: str | None, *, answered: bool, thanked: bool
) -> str:
    told = ""
    if fault:
        told = f'<p class="told bad" role="alert" id="fault">{words[fault]}</p>'
    elif thanked:
        told = f'<p class="told good" role="status">{words["thanks"]}</p><p>{words["changeable"]}</p>'
    missing = ' aria-describedby="fault"' if fault == "missing" else ""
    long = ' aria-invalid="true"' if fault == "long" else ""
    scale = "".join(_choice(words, number, chosen=number == rating) for number in range(1, 6))
    return (
        f'{told}<form method="post"><fieldset{missing}><legend>{words["legend"]}</legend>'
        f'<div class="scale">{scale}</div></fieldset>'
        f'<label class="comment" for="comment">{words["comment"]}</label>'
        f'<textarea id="comment" name="comment" maxlength="{LONGEST_COMMENT}" aria-describedby="hint"{long}>'
        # A line break right after the tag is not part of the value.
        f"\n{escape(comment)}</textarea>"
        f'<p class="hint" id="hint">{words["hint"]}</p>'
        f"<button>{words['again' if answered else 'send']}</button></form>"
    )


def _choice(words: Mapping[str, str], number: int, *, chosen: bool) -> str:
    face = (
        '<svg viewBox="0 0 24 24" aria-hidden="true"><circle cx="12" cy="12" r="10"/>'
        f'<path d="M9 9.5v.01M15 9.5v.01"/><path d="{_MOUTHS[number - 1]}"/></svg>'
    )
    checked = " checked" if chosen else ""
    return (
        f'<label><input type="radio" name="rating" value="{number}" required{checked}>'
        f"{face}<b>{number}</b><span>{words[str(number)]}</span></label>"
    )
