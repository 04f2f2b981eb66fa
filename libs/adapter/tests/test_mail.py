"""Which mails a machine wrote."""

from email import message_from_string

import pytest

from relevo.adapter.mail import automatic

PLAIN = "From: Ana <ana@example.com>\nSubject: Fwd: no-reply\nReturn-Path: <ana@example.com>\n"


@pytest.mark.parametrize(
    "headers",
    [
        "Auto-Submitted: auto-replied",
        'auto-submitted: Auto-Generated; owner-email="x@example.com"',
        "Precedence: bulk",
        "Precedence: Auto_Reply",
        "List-Id: <news.example.com>",
        "X-Autoreply: yes",
        "X-Auto-Response-Suppress: DR, OOF, AutoReply",
        'Content-Type: multipart/report; report-type=delivery-status; boundary="b"',
    ],
)
def test_what_a_machine_wrote_is_found(headers: str) -> None:
    assert automatic(message_from_string(f"{PLAIN}{headers}\n\nx"))


@pytest.mark.parametrize(
    "mail",
    [
        "From: MAILER-DAEMON@mx.example.com\n\nx",
        "From: Tienda <no-reply@example.com>\n\nx",
        "From: Ana <ana@example.com>\nReturn-Path: <>\n\nx",
    ],
)
def test_senders_that_nobody_reads_are_machines(mail: str) -> None:
    assert automatic(message_from_string(mail))


@pytest.mark.parametrize(
    "headers",
    ["", "Auto-Submitted: no", "Precedence: normal", "X-Auto-Response-Suppress: None", "Content-Type: multipart/mixed"],
)
def test_what_a_person_wrote_is_a_persons(headers: str) -> None:
    assert not automatic(message_from_string(f"{PLAIN}{headers}\n\nx" if headers else f"{PLAIN}\nx"))
    assert not automatic(message_from_string("\nwithout any header"))
