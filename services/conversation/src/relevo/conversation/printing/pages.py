"""The pages of a transcript: A4, who said what and when, emoji in black and white."""

import logging
import unicodedata
from pathlib import Path
from typing import Final

from fpdf import FPDF
from fpdf.enums import XPos, YPos
from fpdf.fonts import TTFFont

from relevo.conversation.domain.transcript import Side, Transcript

_FONTS: Final = Path(__file__).parent / "fonts"
_MARGIN: Final = 20.0
_COLOURS: Final[dict[Side, tuple[int, int, int]]] = {
    "customer": (29, 78, 137),
    "team": (22, 101, 52),
    "note": (146, 64, 14),
}
_GREY: Final = (107, 114, 128)
_BLACK: Final = (17, 24, 39)
_NOTHING: Final = frozenset({"\u200d", "\ufe0e", "\ufe0f", *map(chr, range(0x1F3FB, 0x1F400))})
"""What joins and colours emoji: the pictures of black and white have no use for it."""
_UNKNOWN: Final = "\u25a1"


class _Sheet(FPDF):
    """A4 with the page's number below."""

    def __init__(self, transcript: Transcript) -> None:
        super().__init__(format="A4")
        self._es = transcript.language == "es"
        self.set_margin(_MARGIN)
        self.set_auto_page_break(auto=True, margin=_MARGIN)
        self.add_font("text", "", _FONTS / "DejaVuSans.ttf")
        self.add_font("text", "B", _FONTS / "DejaVuSans-Bold.ttf")
        self.add_font("emoji", "", _FONTS / "Symbola-emoji.ttf")
        self.set_fallback_fonts(["emoji"], exact_match=False)
        self.set_title(transcript.title)
        self.set_creator("Relevo")
        self.set_lang(transcript.language)
        self._known = {code for font in self.fonts.values() if isinstance(font, TTFFont) for code in font.cmap}

    def footer(self) -> None:
        self.set_y(-15)
        self.set_font("text", "", 8)
        self.set_text_color(*_GREY)
        page = f"Página {self.page_no()} de {{nb}}" if self._es else f"Page {self.page_no()} of {{nb}}"
        self.cell(0, 5, page, align="C")

    def showable(self, text: str) -> str:
        """A text of what the fonts have: an emoji that they lack by its name, another sign as an empty box."""
        parts = []
        for sign in unicodedata.normalize("NFC", text):
            if sign in _NOTHING or (unicodedata.category(sign) in ("Cc", "Cf") and sign != "\n"):
                parts.append(" " if sign == "\t" else "")
            elif sign == "\n" or ord(sign) in self._known:
                parts.append(sign)
            elif unicodedata.category(sign) == "So" and (name := unicodedata.name(sign, "")):
                parts.append(f"[{name.lower()}]")
            else:
                parts.append(_UNKNOWN)
        return "".join(parts)

    def lines(self, text: str, height: float) -> None:
        """A paragraph, as wide as the page."""
        self.multi_cell(0, height, self.showable(text), align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def drawn(transcript: Transcript) -> bytes:
    """The transcript as a PDF. It has no way to a network or a file: pictures and links are text in it."""
    # Of fonts that lack a sign, which `showable` has seen to.
    logging.getLogger("fpdf").setLevel(logging.ERROR)
    logging.getLogger("fontTools").setLevel(logging.ERROR)
    es = transcript.language == "es"
    sheet = _Sheet(transcript)
    sheet.add_page()
    sheet.set_text_color(*_BLACK)
    sheet.set_font("text", "B", 15)
    sheet.lines(transcript.title, 8)
    if transcript.subject:
        sheet.set_font("text", "", 11)
        sheet.lines(f"{'Asunto' if es else 'Subject'}: {transcript.subject}", 6)
    for said in transcript.said:
        # A heading stands with at least a line of what it is of.
        if sheet.will_page_break(16):
            sheet.add_page()
        sheet.ln(4)
        sheet.set_font("text", "B", 9)
        sheet.set_text_color(*_COLOURS[said.side])
        sheet.lines(f"{said.who}  ·  {said.moment}", 5)
        sheet.set_text_color(*_BLACK)
        sheet.set_font("text", "", 10)
        if said.text:
            sheet.lines(said.text, 5)
        sheet.set_text_color(*_GREY)
        for name in said.attachments:
            sheet.lines(f"{'Adjunto' if es else 'Attached'}: {name}", 5)
    return bytes(sheet.output())
