import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Integer, Text, bindparam, column, func, select
from sqlalchemy.dialects.postgresql import JSONB

from relevo.kernel.text import (
    SEPARATORS,
    clean,
    clean_json,
    contains_words,
    fold,
    fold_accents,
    fold_sql,
    stems,
    words,
    words_pattern,
)

# What people write in the languages around: no unassigned code points, whose case a newer Unicode may define.
letters = st.characters(max_codepoint=0x2FFF, categories=["L", "M", "N", "P", "S", "Z"]) | st.sampled_from(
    "áÉñÑüÜçİıßΣςσǗ😀"
)
texts = st.text(letters, max_size=20)


@pytest.mark.parametrize(
    ("written", "folded", "with_n"),
    [
        ("Camión", "camion", "camion"),
        ("AÑO", "año", "ano"),
        ("PINGÜINO", "pinguino", "pinguino"),
        ("n\u0303a\u0301", "ña", "na"),
        ("Ça va à São", "ça va à são", "ça va à são"),
        ("İstanbul", "istanbul", "istanbul"),
        ("ΣΊΣΥΦΟΣ", "σισυφοσ", "σισυφοσ"),
        ("ǗǛ", "uù", "uù"),
        ("", "", ""),
    ],
)
def test_folding(written, folded, with_n):
    assert fold(written) == folded
    assert fold(written, fold_n=True) == with_n


def test_folding_accents_of_a_pattern_keeps_case():
    assert fold_accents(r"Avión\S\sÑÜ") == r"Avion\S\sÑU"
    assert fold_accents("Ñandú", fold_n=True) == "Nandu"


@settings(deadline=None)
@given(st.lists(texts.map(clean), min_size=1, max_size=20), st.booleans())
def test_folding_is_the_same_in_sql(database, given_texts, fold_n):
    rows = [{"row": row, "body": body} for row, body in enumerate(given_texts)]
    table = (
        func.jsonb_to_recordset(bindparam(None, rows, type_=JSONB))
        .table_valued(column("row", Integer), column("body", Text))
        .render_derived(name="t", with_types=True)
    )
    found = database.scalars(select(fold_sql(table.c.body, fold_n=fold_n)).order_by(table.c.row)).all()
    assert found == [fold(body, fold_n=fold_n) for body in given_texts]


@given(texts)
def test_case_composition_and_accents_do_not_matter(text):
    assert fold(unicodedata.normalize("NFD", text)) == fold(unicodedata.normalize("NFC", text))


def test_separators_hold_no_letter_digit_or_mark_of_a_living_script():
    enclosed = {*range(0x2460, 0x2500), *range(0x2776, 0x2794), *range(0x1F100, 0x1F10D)}  # numbers in circles
    wrong = [c for c in SEPARATORS if unicodedata.category(c)[0] in "LNM" and ord(c) not in enclosed]
    assert wrong == []
    assert all(sign in SEPARATORS for sign in " \t\n.,;:!?¡¿-–—'\"«»()[]{}/\\@#$%&*+=<>|~^`´€😀→•…\u00a0\u200b")


def test_words():
    assert words("¡Hola, mundo! e-mail: ñandú_7 😀fin") == ["Hola", "mundo", "e", "mail", "ñandú_7", "fin"]


@pytest.mark.parametrize(
    ("text", "phrase", "found"),
    [
        ("hay un error aquí", "error", True),
        ("error", "error", True),
        ("terrores", "error", False),
        ("errores, error!", "error", True),
        ("use c++11", "c++", True),
        ("uso xc++", "c++", False),
        ("fuera de servicio", "de serv", False),
        ("aa aaa", "aaa", True),
        ("", "x", False),
    ],
)
def test_whole_words(text, phrase, found):
    assert contains_words(text, phrase) is found
    assert bool(re.search(words_pattern(phrase), text)) is found


@given(
    st.text(st.sampled_from("ab ñ+.-\\]^é"), max_size=12),
    st.text(st.sampled_from("ab ñ+.-\\]^é"), min_size=1, max_size=3),
)
def test_whole_words_agree_with_their_pattern(text, phrase):
    assert contains_words(text, phrase) == bool(re.search(words_pattern(phrase), text))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("reembolso", "reembolsos"),
        ("devolución", "devoluciones"),
        ("devolucion", "devoluciones"),
        ("canción", "canciones"),
        ("error", "errores"),
        ("inglés", "ingleses"),
        ("refund", "refunds"),
        ("invoice", "invoices"),
    ],
)
def test_plural_forms_share_a_stem(one, other):
    assert set(zip(["es", "en"], stems(fold(one)), strict=True)) & set(
        zip(["es", "en"], stems(fold(other)), strict=True)
    )


def test_ano_is_not_the_plural_of_anos_with_tilde():
    assert not {stems("año")[0]} & {stems("anos")[0]}


anything = st.text(st.characters(codec=None) | st.sampled_from("\x00\r\n\x85\u202e\u2066\ufeff\ud83d\ude00e\u0301"))


@given(anything)
def test_cleaned_text_is_safe_and_stays_as_it_is(text):
    cleaned = clean(text)
    cleaned.encode()
    assert clean(cleaned) == cleaned
    assert unicodedata.is_normalized("NFC", cleaned)
    assert not {c for c in cleaned if unicodedata.category(c) in ("Cc", "Cs")} - {"\n", "\t"}
    assert not {
        c
        for c in cleaned
        if unicodedata.bidirectional(c) in ("LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI")
    }


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("a\x00b", "ab"),
        ("uno\r\ndos\rtres", "uno\ndos\ntres"),
        ("\ud83d\ude00 \ud83d!", "😀 \ufffd!"),
        ("pago\u202efdp.exe", "pagofdp.exe"),
        ("\ufeffhola", "hola"),
        ("cafe\u0301", "café"),
        ("👨\u200d👩\u200d👧", "👨\u200d👩\u200d👧"),
    ],
)
def test_cleaning(raw, cleaned):
    assert clean(raw) == cleaned


def test_all_texts_of_a_json_value_are_cleaned_and_nothing_else():
    value = {"a\0": ["b\0", 1, None, True, {"c": "d\ufeff"}], "e": 1.5}
    assert clean_json(value) == {"a": ["b", 1, None, True, {"c": "d"}], "e": 1.5}
