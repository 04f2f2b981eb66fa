"""Reads a PDF of ours back: the text on its pages, line by line."""

import re
import zlib

_OBJECT = re.compile(rb"(\d+) 0 obj\n(.*?)\nendobj", re.DOTALL)
_STREAM = re.compile(rb"stream\n(.*?)\nendstream", re.DOTALL)
_SHOWN = re.compile(rb"/(F\d+) [\d.]+ Tf|\(((?:[^()\\]|\\.)*)\) Tj|[\d.]+ ([\d.]+) Td|(q BT|ET Q)", re.DOTALL)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)


def lines_of(pdf: bytes) -> list[str]:
    """What stands on the pages, a line each."""
    assert pdf.startswith(b"%PDF-"), pdf[:20]
    objects = {int(number): body for number, body in _OBJECT.findall(pdf)}
    fonts: dict[bytes, dict[int, str]] = {}
    for body in objects.values():
        for name, number in re.findall(rb"/(F\d+) (\d+) 0 R", body):
            unicode_ = re.search(rb"/ToUnicode (\d+) 0 R", objects[int(number)])
            assert unicode_
            fonts[name] = _signs(_stream(objects[int(unicode_[1])]))
    found: dict[tuple[int, float], str] = {}
    for page, number in enumerate(map(int, re.findall(rb"/Contents (\d+) 0 R", pdf))):
        font = kept = fonts[next(iter(fonts))]
        place = 0.0
        for name, text, y, state in _SHOWN.findall(_stream(objects[number])):
            if state == b"q BT":
                kept = font
            elif state:
                font = kept
            elif name:
                font = fonts[name]
            elif y:
                place = float(y)
            else:
                raw = _ESCAPED.sub(lambda m: {b"r": b"\r", b"n": b"\n"}.get(m[1], m[1]), text)
                codes = [int.from_bytes(raw[n : n + 2], "big") for n in range(0, len(raw), 2)]
                key = page, -place
                found[key] = found.get(key, "") + "".join(font[code] for code in codes)
    return [found[key] for key in sorted(found)]


def _stream(body: bytes) -> bytes:
    raw = _STREAM.search(body)
    assert raw
    return zlib.decompress(raw[1]) if b"/FlateDecode" in body[: raw.start()] else raw[1]


def _signs(table: bytes) -> dict[int, str]:
    """Which sign a code of a font stands for, as its ToUnicode table says."""
    found = {}
    for part in re.findall(rb"beginbfchar(.*?)endbfchar", table, re.DOTALL):
        for code, sign in re.findall(rb"<([0-9A-Fa-f]+)>\s*<([0-9A-Fa-f]+)>", part):
            found[int(code, 16)] = bytes.fromhex(sign.decode()).decode("utf-16-be")
    return found
