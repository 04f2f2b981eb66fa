"""The e-mails by which people get in, from identity over the bus and notification to a real SMTP server."""

import base64
import os
import re
from collections.abc import AsyncIterator, Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import pytest_asyncio
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from whole_stack import until

from relevo.chassis.testing import Running, running
from relevo.identity.app import build as build_identity
from relevo.notification.app import build as build_notification
from relevo.stack.keys import write_secret
from relevo.stack.process import free_port
from relevo.stack.testing import TestServers

SETUP_TOKEN = "setup-token-of-the-mails"
PASSWORD = "correct horse battery"
PUBLIC_URL = "https://relevo.example"


class MailServer:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.got: list[EmailMessage] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        message = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.got.append(message)
        return "250 OK"

    async def next_to(self, address: str, subject: str) -> EmailMessage:
        """The mail to this address whose subject has these words, once it came."""

        async def look() -> EmailMessage | None:
            found = [m for m in self.got if address in m["To"] and subject in m["Subject"]]
            return found[-1] if found else None

        mail = await until(look, f"a mail to {address}: {subject} (came: {[str(m['Subject']) for m in self.got]})")
        assert mail is not None
        return mail


def token_of(mail: EmailMessage, page: str) -> str:
    """The token within the mail's link, the same in text and HTML."""
    texts = [mail.get_body((kind,)).get_content() for kind in ("plain", "html")]  # type: ignore[union-attr]
    found = [re.findall(re.escape(f"{PUBLIC_URL}/{page}#") + r"([\w-]+)", text) for text in texts]
    assert len(found[0]) == 1
    assert set(found[0]) == set(found[1])
    return str(found[0][0])


@pytest.fixture
def mail() -> Iterator[tuple[MailServer, str]]:
    server = MailServer()
    controller = Controller(server, hostname="127.0.0.1", port=free_port())
    controller.start()
    yield server, f"smtp://127.0.0.1:{controller.port}"
    controller.stop()


@pytest_asyncio.fixture
async def both(servers: TestServers, mail: tuple[MailServer, str]) -> AsyncIterator[tuple[Running, Running]]:
    """Identity and notification on one bus, each with a database of its own."""
    bus = servers.create_bus()
    system = servers.keys.system_credentials(
        "identity", [f"$SYS.REQ.ACCOUNT.{bus.account}.CLAIMS.UPDATE"], ["_INBOX_identity.>"]
    )
    identity = {
        "RELEVO_MASTER_KEY": base64.b64encode(os.urandom(32)).decode(),
        "RELEVO_SETUP_TOKEN": SETUP_TOKEN,
        "RELEVO_BUS_ACCOUNT": bus.account,
        "RELEVO_BUS_SIGNING_SEED": bus.signing_seed,
        "RELEVO_BUS_OPERATOR_SEED": servers.keys.operator_signing.seed,
        "RELEVO_BUS_SYSTEM_CREDENTIALS": str(
            write_secret(Path(servers.folder) / f"{bus.account[:10]}-revocation.creds", system)
        ),
        "RELEVO_PUBLIC_URL": PUBLIC_URL,
    }
    notification = {"RELEVO_SMTP_URL": mail[1], "RELEVO_PUBLIC_URL": PUBLIC_URL}
    async with (
        running(build_identity, servers, bus=bus, **identity) as one,
        running(build_notification, servers, bus=bus, **notification) as other,
    ):
        yield one, other


async def set_up(identity: Running) -> dict[str, Any]:
    admin = {"name": "Root", "email": "root@example.com", "password": PASSWORD}
    answer = await identity.http.post(
        "/setup",
        json={"account_name": "Acme", "language": "es", "admin": admin},
        headers={"Authorization": f"Bearer {SETUP_TOKEN}"},
    )
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def roles(identity: Running, token: str) -> dict[str, str]:
    answer = await identity.http.get("/roles", headers={"Authorization": f"Bearer {token}"})
    return {role["name"]: role["id"] for role in answer.json()["items"]}


async def invite(identity: Running, made: dict[str, Any], email: str, **more: Any) -> httpx.Response:
    role = (await roles(identity, made["api_token"]))["agent"]
    body = {"name": "Eva", "email": email, "role_id": role, "inbox_ids": None, **more}
    return await identity.http.post("/agents", json=body, headers={"Authorization": f"Bearer {made['api_token']}"})


async def test_an_invitation_is_a_mail_whose_link_lets_its_reader_in(
    both: tuple[Running, Running], mail: tuple[MailServer, str]
) -> None:
    identity, notification = both
    made = await set_up(identity)
    for email, language, subject in (
        ("eva@example.com", "es", "te invita a Acme"),
        ("eve@example.com", "en", "invites you to Acme"),
    ):
        assert (await invite(identity, made, email, language=language)).status_code == 201
        token = token_of(await mail[0].next_to(email, subject), "invitation")
        entered = await identity.http.post("/invitations/accept", json={"token": token, "password": PASSWORD})
        assert entered.status_code == 201, entered.text
        me = await identity.http.get("/me", headers={"Authorization": f"Bearer {entered.json()['access_token']}"})
        assert me.json()["agent"]["email"] == email
        await nothing_kept(notification, token)


async def nothing_kept(notification: Running, token: str) -> None:
    """What was sent lies nowhere in notification's database."""

    async def gone() -> bool:
        async with await psycopg.AsyncConnection.connect(notification.dsn) as connection:
            found = await connection.execute("select state, t::text from mails t")
            return all(state == "sent" and token not in text for state, text in await found.fetchall())

    await until(gone, "the mail's text to be forgotten")


async def test_a_forgotten_password_is_a_mail_and_its_change_another(
    both: tuple[Running, Running], mail: tuple[MailServer, str]
) -> None:
    identity, notification = both
    made = await set_up(identity)
    assert (await invite(identity, made, "eva@example.com", initial_password=PASSWORD)).status_code == 201
    for address in ("nobody@example.com", "eva@example.com"):
        assert (await identity.http.post("/password-resets", json={"email": address})).status_code == 202
    token = token_of(await mail[0].next_to("eva@example.com", "Restablecer tu contraseña"), "password-reset")
    chosen = {"token": token, "password": "another staple entirely"}
    assert (await identity.http.post("/password-resets/complete", json=chosen)).status_code == 204
    await mail[0].next_to("eva@example.com", "contraseña de Relevo ha cambiado")
    session = {"email": "eva@example.com", "password": "another staple entirely"}
    entered = (await identity.http.post("/sessions", json=session)).json()
    change = {"email": "eva.luna@example.com", "password": "another staple entirely"}
    headers = {"Authorization": f"Bearer {entered['access_token']}"}
    assert (await identity.http.put("/me/email", json=change, headers=headers)).status_code == 202
    token = token_of(await mail[0].next_to("eva.luna@example.com", "Confirma tu dirección"), "email-confirmation")
    assert (await identity.http.post("/email-confirmations", json={"token": token})).status_code == 200
    await mail[0].next_to("eva@example.com", "dirección de correo en Relevo ha cambiado")
    assert not [m for m in mail[0].got if "nobody@" in m["To"]]
    await nothing_kept(notification, token)
