"""HTTP: my devices, for web push."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field, StringConstraints

from relevo.chassis.http import Db
from relevo.chassis.problems import FieldError, Problem
from relevo.contracts.base import Time, new_id, now
from relevo.notification.api.me import Me
from relevo.notification.domain import push
from relevo.notification.domain.push import BadSubscription
from relevo.notification.settings import Settings
from relevo.notification.store import pushes

router = APIRouter()

_Key = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class PushOut(BaseModel):
    """Whether devices can subscribe."""

    public_key: str | None = Field(
        description="The applicationServerKey to subscribe with (base64url); null: web push is off."
    )


class DeviceKeys(BaseModel):
    """The keys of a browser's PushSubscription, base64url."""

    p256dh: _Key
    auth: _Key


class Subscription(BaseModel):
    """A browser's PushSubscription, as its toJSON() gives it, and a name for the device."""

    endpoint: Annotated[str, StringConstraints(min_length=1, max_length=2000)]
    keys: DeviceKeys
    device: Annotated[str, StringConstraints(max_length=100)] = Field(
        default="", description="What its owner knows it by, such as Firefox on Linux."
    )


class DeviceOut(BaseModel):
    """A device that gets pushes."""

    id: str
    device: str
    endpoint: str
    created_at: Time


class Devices(BaseModel):
    """All of mine, the newest first."""

    items: list[DeviceOut]


@router.get("/notifications/push")
async def get_push_key(me: Me, request: Request) -> PushOut:
    """The key that a browser subscribes with."""
    key = _settings(request).vapid_key()
    return PushOut(public_key=push.encoded(push.public_point(key)) if key is not None and me else None)


@router.get("/notifications/push/devices")
async def list_push_devices(me: Me, db: Db) -> Devices:
    """My devices that get pushes."""
    async with db.begin() as tx:
        rows = await pushes.devices(tx, me.account_id, me.id)
    return Devices(items=[DeviceOut(**row) for row in rows])


@router.post("/notifications/push/devices", status_code=201)
async def add_push_device(body: Subscription, me: Me, db: Db, request: Request) -> DeviceOut:
    """Have this device get pushes. The same again changes nothing; a device is whoever's subscribed on it last."""
    settings = _settings(request)
    if settings.vapid_key() is None:
        raise Problem(
            409,
            "push_off",
            es="Las notificaciones push no están configuradas (RELEVO_VAPID_SEED).",
            en="Web push is not configured (RELEVO_VAPID_SEED).",
        )
    if not push.is_allowed(body.endpoint, settings.push_hosts):
        raise _invalid(
            "/endpoint",
            "no es de un servicio push conocido (RELEVO_PUSH_HOSTS)",
            "is not of a known push service (RELEVO_PUSH_HOSTS)",
        )
    try:
        point = push.device_key(body.keys.p256dh)
    except BadSubscription:
        raise _invalid("/keys/p256dh", "no es una clave P-256 en base64url", "is no P-256 key in base64url") from None
    try:
        secret = push.device_secret(body.keys.auth)
    except BadSubscription:
        raise _invalid("/keys/auth", "no son 16 bytes en base64url", "is not 16 bytes in base64url") from None
    async with db.begin() as tx:
        row = await pushes.subscribe(
            tx,
            me.account_id,
            me.id,
            new_id(),
            body.endpoint,
            point=point,
            secret=secret,
            device=body.device,
            now=now(),
        )
    return DeviceOut(**row)


@router.delete("/notifications/push/devices/{device_id}", status_code=204)
async def remove_push_device(device_id: UUID, me: Me, db: Db) -> Response:
    """Have it get no pushes any more."""
    async with db.begin() as tx:
        if not await pushes.unsubscribe(tx, me.account_id, me.id, str(device_id)):
            raise Problem(404, "device_not_found", es="No existe ese dispositivo.", en="There is no such device.")
    return Response(status_code=204)


def _settings(request: Request) -> Settings:
    settings = request.app.state.runtime.settings
    assert isinstance(settings, Settings)
    return settings


def _invalid(pointer: str, es: str, en: str) -> Problem:
    return Problem(
        422,
        "invalid_subscription",
        es="La suscripción no es válida.",
        en="The subscription is not valid.",
        errors=[FieldError(pointer, es, en)],
    )
