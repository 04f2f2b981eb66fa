"""What is typed, taken apart, and where it is found in texts."""

from hypothesis import given
from hypothesis import strategies as st

from relevo.conversation.domain.search import Query, Terms, Word, excerpt, parse, pattern, plain


def test_words_phrases_and_operators_are_told_apart():
    asked = parse('devolución "talla mediana" from:me in:email label:"cambio de talla" PED-0012 fac')
    assert asked == Query(
        words=("devolución", "PED", "0012", "fac"),
        phrases=("talla mediana",),
        authors=("me",),
        places=("email",),
        labels=("cambio de talla",),
        open_end=True,
    )
    assert parse("de:yo en:whatsapp etiqueta:vip hola ") == Query(
        words=("hola",), authors=("yo",), places=("whatsapp",), labels=("vip",)
    )
    assert parse('"solo"').words == ("solo",)
    assert not parse('"abierta por').open_end
    assert parse("hola: ¿qué?").words == ("hola", "qué")
    assert parse("from:").words == ("from",)
    assert parse(" ¡! ").empty


@given(st.text(max_size=80))
def test_whatever_is_typed_is_taken_apart_and_makes_a_pattern_without_quotes_of_its_own(typed):
    asked = parse(typed)
    made = pattern([Word((plain(word),), common=False) for word in asked.words])
    assert made.count("'") == 2 * len(asked.words)
    Terms(asked).marks(typed)


@given(st.text(max_size=400), st.text(max_size=30))
def test_marks_are_within_the_text_and_an_excerpt_keeps_what_they_mark(text, typed):
    terms = Terms(parse(typed))
    marks = terms.marks(text)
    shown, moved = excerpt(text, marks)
    assert len(shown) <= 242
    words = [text[low:high] for low, high in marks]
    assert [shown[low:high] for low, high in moved] == words[: len(moved)]
    assert not marks or moved or len(words[0]) > 60


def test_forms_of_a_word_are_marked_and_exact_spelling_counts():
    text = "Las devoluciones del año; a refund, refunds. Anos después"
    assert [text[a:b] for a, b in Terms(parse("devolución refund ")).marks(text)] == [
        "devoluciones",
        "refund",
        "refunds",
    ]
    assert [text[a:b] for a, b in Terms(parse("ano ")).marks(text)] == ["año", "Anos"]
    assert [text[a:b] for a, b in Terms(parse("devoluc")).marks(text)] == ["devoluciones"]
    assert Terms(parse("año ")).exactness(text) == 1
    assert Terms(parse("ano ")).exactness(text) == 0


def test_common_words_count_only_among_themselves():
    de, factura = Word(("de", "de"), common=True), Word(("factura", "factur"), common=False)
    assert pattern([de, factura]) == "('~factura' | '~factur')"
    assert pattern([de]) == "('~de' | '~de')"
    assert pattern([factura], "@customer") == "('~factura' | '~factur') & '~@customer'"
    assert pattern([Word(("fac",), common=False, begun="fac")]) == "('~fac':*)"
    assert pattern([Word(("factur",), common=False, begun="facturas")]) == "('~factur' | '~facturas':*)"
