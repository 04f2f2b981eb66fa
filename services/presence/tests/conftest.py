"""A running presence service with an organisation in its directory."""

from collections.abc import AsyncIterator

import pytest

from relevo.chassis.testing import Organisation, Running, running
from relevo.presence.app import build


@pytest.fixture
async def presence(servers) -> AsyncIterator[Running]:
    async with running(
        build, servers, RELEVO_PRESENCE_HEARTBEAT="0.5", RELEVO_PRESENCE_GRACE="1", RELEVO_PRESENCE_LEAVE_GRACE="0.3"
    ) as service:
        yield service


@pytest.fixture
async def org(presence) -> Organisation:
    organisation = Organisation(presence.admin)
    await organisation.found()
    return organisation
