"""The words, and who they go to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevo.notification.domain import texts


def test_every_text_exists_in_both_languages_with_the_same_places():
    names = ("number", "contact", "author", "text", "title", "account", "link", "inviter", "name", "until", "at", "by")
    names += ("comment", "transcript", "host", "error", "minutes", "rule", "words", "seconds", "count")
    data = {name: f"<{name}>" for name in names}
    for template in texts.TEMPLATES:
        es, en = (texts.fill(template, language, data) for language in ("es", "en"))
        assert es.title
        assert en.title
        for name in data:
            assert (f"<{name}>" in es.title + es.body) == (f"<{name}>" in en.title + en.body)


def test_what_is_missing_is_named():
    with pytest.raises(texts.MissingData, match="contact, number"):
        texts.fill("assignment", "es", {})
    with pytest.raises(texts.UnknownTemplate, match="nope"):
        texts.fill("nope", "es", {})


@given(st.text(), st.text())
def test_what_people_write_stays_what_it_is(author, written):
    data = {"author": author, "text": written, "number": 7}
    text = texts.fill("mention", "en", data)
    assert "\n" not in text.title
    assert "\r" not in text.title
    page = texts.mail_html(text, "en", "https://example.org/?a=1&b=2")
    assert page.count("<h1") == page.count("<a ") == page.count("</html>") == 1
