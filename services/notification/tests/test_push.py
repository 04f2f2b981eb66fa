"""Web push: the published example of RFC 8291, and devices behind a push service of our own that reads what it gets."""

import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from relevo.chassis.bus import until
from relevo.notification import pusher
from relevo.notification.domain import push
from relevo.notification.settings import Settings

SEED = "s" * 40


def plain(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def key_of(number: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(plain(number), "big"), ec.SECP256R1())


def decrypted(body: bytes, own: ec.EllipticCurvePrivateKey, secret: bytes) -> bytes:
    """As a device does it: RFC 8188 and 8291 read from the other side."""
    salt, size, theirs, sealed = body[:16], body[20], body[21 : 21 + body[20]], body[21 + body[20] :]
    assert size == 65
    sender = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), theirs)
    info = b"WebPush: info\0" + push.public_point(own) + theirs

    def derive(ikm: bytes, salt: bytes, info: bytes, length: int) -> bytes:
        return HKDF(hashes.SHA256(), length, salt, info).derive(ikm)

    shared = derive(own.exchange(ec.ECDH(), sender), secret, info, 32)
    key = derive(shared, salt, b"Content-Encoding: aes128gcm\0", 16)
    record = AESGCM(key).decrypt(derive(shared, salt, b"Content-Encoding: nonce\0", 12), sealed, None)
    text, mark, padding = record.rpartition(b"\x02")
    assert mark
    assert not padding.strip(b"\0")
    return text


def test_the_published_example_of_rfc_8291():
    body = push.encrypted(
        b"When I grow up, I want to be a watermelon",
        plain("BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"),
        plain("BTBZMqHH6r4Tts7J_aSIgg"),
        own=key_of("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"),
        salt=plain("DGv6ra1nlYgDCS1FRnbzlw"),
    )
    assert push.encoded(body) == (
        "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_"
        "yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
    )


@given(st.text(max_size=4000), st.text(max_size=4000))
def test_whatever_people_write_fits(title, body):
    told = json.loads(push.payload({"title": title, "body": body, "tag": "x" * 32}))
    assert title.startswith(told["title"])
    assert body.startswith(told["body"])
    assert len(push.payload({"title": title, "body": body, "tag": ""}).encode()) <= push.MAX_PAYLOAD


@given(st.binary(max_size=push.MAX_PAYLOAD), st.binary(min_size=16, max_size=16))
def test_only_the_device_reads_it(payload, secret):
    device, stranger = push.new_key(), push.new_key()
    body = push.encrypted(payload, push.public_point(device), secret, own=push.new_key(), salt=b"s" * 16)
    assert decrypted(body, device, secret) == payload
    assert len(body) <= 4096
    with pytest.raises(Exception):  # noqa: B017  (the library's InvalidTag)
        decrypted(body, stranger, secret)


@pytest.mark.parametrize(
    ("endpoint", "allowed"),
    [
        ("https://fcm.googleapis.com/fcm/send/x", True),
        ("https://updates.push.services.mozilla.com/wpush/v2/x", True),
        ("http://fcm.googleapis.com/x", False),
        ("https://fcm.googleapis.com.evil.example/x", False),
        ("https://evilfcm.googleapis.com/x", False),
        ("https://user@fcm.googleapis.com/x", False),
        ("https://127.0.0.1/x", False),
        ("http://169.254.169.254/latest", False),
        ("https://fcm.googleapis.com:x/y", False),
        ("https://[::1/y", False),
        ("nonsense", False),
    ],
)
def test_pushes_go_to_push_services_only(endpoint, allowed):
    assert push.is_allowed(endpoint, Settings.model_fields["push_hosts"].default) is allowed


@given(st.text(max_size=200))
def test_whatever_a_browser_sends_is_read_or_refused(text_):
    for read in (push.device_key, push.device_secret):
        with contextlib.suppress(push.BadSubscription):
            assert isinstance(read(text_), bytes)


@dataclass
class PushService:
    """Takes pushes for its devices, or answers what a test tells it to."""

    url: str = ""
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    got: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    tried: int = 0


@pytest.fixture
def service_of_pushes() -> Iterator[PushService]:
    service = PushService()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            service.tried += 1
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, headers = service.answers.pop(0) if service.answers else (201, {})
            if status == 201:
                service.got.append((self.path, dict(self.headers), body))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    service.url = f"http://127.0.0.1:{server.server_port}"
    yield service
    server.shutdown()
    thread.join()
    server.server_close()


class Device:
    """A browser: its keys, and what it makes of a push."""

    def __init__(self, url: str, name: str) -> None:
        self.key = push.new_key()
        self.secret = b"0123456789abcdef"
        self.path = f"/push/{name}"
        self.subscription = {
            "endpoint": url + self.path,
            "expirationTime": None,
            "keys": {"p256dh": push.encoded(push.public_point(self.key)), "auth": push.encoded(self.secret)},
            "device": name,
        }

    def read(self, got: list[tuple[str, dict[str, str], bytes]]) -> list[dict]:
        return [json.loads(decrypted(body, self.key, self.secret)) for path, _, body in got if path == self.path]


async def states(service):
    async with service.runtime.database.begin(door="pushes") as tx:
        return list((await tx.execute(text("select state from pushes order by id"))).scalars())


async def hurry(service):
    async with service.runtime.database.begin(door="pushes") as tx:
        await tx.execute(text("update pushes set next_at = now() where state = 'waiting'"))


ON = {"RELEVO_VAPID_SEED": SEED, "RELEVO_PUSH_HOSTS": "http://127.0.0.1", "RELEVO_MAIL_FROM": "Relevo <r@example.org>"}


async def test_a_device_reads_what_its_owner_is_told(start, org, service_of_pushes):
    async with start(**ON) as service:
        theirs = type(org)(service.admin)
        await theirs.found()
        ana, leo = await theirs.hire("Ana"), await theirs.hire("Leo")
        await service.settle()
        me = theirs.as_(ana)
        key = (await service.http.get("/notifications/push", headers=me)).json()["public_key"]
        phone, laptop, his = (Device(service_of_pushes.url, name) for name in ("phone", "laptop", "his"))
        for device in (phone, laptop, phone):
            added = await service.http.post("/notifications/push/devices", json=device.subscription, headers=me)
            assert added.status_code == 201, added.text
        await service.http.post("/notifications/push/devices", json=his.subscription, headers=theirs.as_(leo))
        devices = (await service.http.get("/notifications/push/devices", headers=me)).json()["items"]
        assert sorted(one["device"] for one in devices) == ["laptop", "phone"]

        talk = theirs.conversation(assignee_id=ana, number=5)
        await theirs.wrote(talk, "¿Dónde está mi pedido? 📦")

        async def arrived():
            return len(service_of_pushes.got) == 2

        assert await until(arrived, 30)
        for device in (phone, laptop):
            (told,) = device.read(service_of_pushes.got)
            assert (told["title"], told["body"]) == ("Ana wrote in conversation #5", "¿Dónde está mi pedido? 📦")
            assert told["conversation_id"] == talk.id
        assert his.read(service_of_pushes.got) == []
        # The push service knows whose it is, and keeps the newest of a conversation only.
        _, headers, _ = service_of_pushes.got[0]
        scheme, _, rest = headers["Authorization"].partition(" ")
        token, _, named = rest.removeprefix("t=").partition(", k=")
        assert (scheme, named) == ("vapid", key)
        point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), plain(key))
        claims = jwt.decode(token, point, algorithms=["ES256"], audience=service_of_pushes.url)
        assert claims["sub"] == "mailto:r@example.org"
        assert timedelta(0) < datetime.fromtimestamp(claims["exp"], UTC) - datetime.now(UTC) <= timedelta(hours=24)
        assert (headers["Content-Encoding"], headers["TTL"]) == ("aes128gcm", "86400")
        assert headers["Topic"] == push.topic(talk.id)

        async def noted():
            return await states(service) == ["sent", "sent"]

        assert await until(noted, 30)

        # Without the wish, or without the device, nothing comes.
        quiet = {"items": [{"kind": "message", "in_app": True, "email": False, "push": False}]}
        await service.http.put("/notifications/preferences", json=quiet, headers=me)
        await theirs.wrote(talk, "quiet")
        loud = {"items": [{"kind": "message", "in_app": True, "email": False, "push": True}]}
        await service.settle()
        await service.http.put("/notifications/preferences", json=loud, headers=me)
        gone = next(one["id"] for one in devices if one["device"] == "phone")
        path = f"/notifications/push/devices/{gone}"
        assert (await service.http.delete(path, headers=theirs.as_(leo))).status_code == 404
        assert (await service.http.delete(path, headers=me)).status_code == 204
        await theirs.wrote(talk, "loud")

        async def once_more():
            return len(service_of_pushes.got) == 3

        assert await until(once_more, 30)
        assert [one["body"] for one in laptop.read(service_of_pushes.got)][1:] == ["loud"]


async def test_pushes_are_tried_again_left_out_or_given_up(start, org, service_of_pushes):
    service_of_pushes.answers = [(503, {}), (429, {"Retry-After": "120"})]
    async with start(**ON) as service:
        theirs = type(org)(service.admin)
        await theirs.found()
        ana = await theirs.hire("Ana")
        await service.settle()
        me = theirs.as_(ana)
        device = Device(service_of_pushes.url, "phone")
        await service.http.post("/notifications/push/devices", json=device.subscription, headers=me)

        async def tried(times):
            async def so_often():
                return service_of_pushes.tried == times

            assert await until(so_often, 30)

        async def came_to(*wanted):
            async def there():
                return await states(service) == list(wanted)

            assert await until(there, 30), await states(service)

        talk = await theirs.assign(ana)
        await tried(1)

        async def noted():
            async with service.runtime.database.begin(door="pushes") as tx:
                row = (await tx.execute(text("select error, next_at > now() + interval '100 s' from pushes"))).one()
            return tuple(row)

        async def said(error):
            async def there():
                return error in ((await noted())[0] or "")

            assert await until(there, 30)

        await said("503")
        await hurry(service)
        await tried(2)
        await said("429")
        assert (await noted())[1], "as long as the push service wants"
        await hurry(service)
        await came_to("sent")

        # Read before it goes out: left out.
        service_of_pushes.answers = [(503, {})]
        await theirs.wrote(theirs.conversation(assignee_id=ana), "one")
        await tried(4)
        await service.settle()
        await service.http.post("/notifications/read-all", headers=me)
        await hurry(service)
        await came_to("sent", "dropped")
        assert service_of_pushes.tried == 4

        # Refused for good; and a device that is gone takes what waits for it along.
        service_of_pushes.answers = [(400, {})]
        await theirs.assign(ana)
        await came_to("sent", "dropped", "failed")
        service_of_pushes.answers = [(410, {})]
        await theirs.assign(ana)

        async def forgotten():
            return (await service.http.get("/notifications/push/devices", headers=me)).json()["items"] == []

        assert await until(forgotten, 30)
        assert await states(service) == []
        assert talk


async def test_who_dies_before_an_answer_is_noted_pushes_it_once_more_under_the_same_topic(
    start, org, service_of_pushes, monkeypatch
):
    """The push service keeps one of each topic: a device that has not seen the first yet shows the second in its place."""

    class Died(Exception):
        """Ends the round as the process's death would: nothing after the point is done."""

    died = 0

    def die(name):
        nonlocal died
        if name == "pusher.after_attempt" and not died:
            died = 1
            raise Died

    monkeypatch.setattr(pusher, "crash_point", die)
    async with start(**ON) as service:
        theirs = type(org)(service.admin)
        await theirs.found()
        ana = await theirs.hire("Ana")
        await service.settle()
        device = Device(service_of_pushes.url, "phone")
        await service.http.post("/notifications/push/devices", json=device.subscription, headers=theirs.as_(ana))
        await theirs.wrote(theirs.conversation(assignee_id=ana), "one")

        async def tried():
            return died and service_of_pushes.tried == 1

        assert await until(tried, 30)
        assert await states(service) == ["waiting"]
        await hurry(service)

        async def sent():
            return await states(service) == ["sent"]

        assert await until(sent, 30)
        (first, _, _), (second, _, _) = service_of_pushes.got
        assert first == second == device.path
        told = device.read(service_of_pushes.got)
        assert told[0] == told[1]
        assert len({headers["Topic"] for _, headers, _ in service_of_pushes.got}) == 1


async def test_what_is_no_subscription_is_refused_with_the_field(start, org):
    async with start(**ON) as service:
        theirs = type(org)(service.admin)
        await theirs.found()
        ana = await theirs.hire("Ana")
        await service.settle()
        good = Device("http://127.0.0.1:9", "x").subscription
        for change, pointer in (
            ({"endpoint": "https://internal.example/x"}, "/endpoint"),
            ({"keys": {**good["keys"], "p256dh": "AAAA"}}, "/keys/p256dh"),
            ({"keys": {**good["keys"], "auth": "AAAA"}}, "/keys/auth"),
        ):
            answer = await service.http.post("/notifications/push/devices", json=good | change, headers=theirs.as_(ana))
            assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer), answer.text
        # The same key after a restart: subscriptions go on.
        assert push.public_point(push.vapid_key(SEED)) == push.public_point(push.vapid_key(SEED))
        assert push.public_point(push.vapid_key(SEED)) != push.public_point(push.vapid_key(SEED + "x"))


async def test_without_a_key_it_is_off(notification, org):
    ana = await org.hire("Ana")
    await notification.settle()
    me = org.as_(ana)
    assert (await notification.http.get("/notifications/push", headers=me)).json() == {"public_key": None}
    device = Device("http://127.0.0.1:9", "x").subscription
    answer = await notification.http.post("/notifications/push/devices", json=device, headers=me)
    assert (answer.status_code, answer.json()["code"]) == (409, "push_off")
