"""A calendar, from the account that keeps it to the answer out of hours and the report, through the edge of a whole stack."""

from datetime import timedelta
from typing import Any

import httpx
from whole_stack import Account, WholeStack, message, until

from relevo.contracts.base import now
from relevo.kernel.business_time import WEEKDAYS


async def known(account: Account, version: int, *services: str) -> None:
    """Wait until these services have this version of the account's calendar."""

    async def everywhere() -> bool:
        query = "select 1 from directory where kind = 'calendar' and account_id = %s and sequence >= %s"
        return all(account.stack.rows(service, query, [account.id, version]) for service in services)

    await until(everywhere, f"version {version} of the calendar in {services}")


async def test_closed_now_is_told_once_and_counts_no_time(stack: WholeStack) -> None:
    began = now() - timedelta(seconds=1)
    closed = [{"date": (now() + timedelta(days=n)).date().isoformat(), "name": "Feria"} for n in range(-2, 4)]
    always = [{"day": day, "opens": "00:00", "closes": "24:00"} for day in WEEKDAYS]
    async with stack.account("ana") as account, account.adapter() as adapter:
        (ana,) = account.people
        authorized = {"Authorization": f"Bearer {account.api_token}", "If-Match": "*"}
        async with httpx.AsyncClient(base_url=f"{stack.edge_url}/api/v1", headers=authorized) as api:
            calendar = await account.admin.post(
                "/calendars",
                {"name": "C", "time_zone": "UTC", "weekly": always, "special_days": closed, "is_default": True},
            )
            text = {"enabled": True, "text_es": "Volvemos {{next_opening}}."}
            said = await api.put(f"/out-of-hours/{account.inbox_id}", json=text)
            assert said.status_code == 200, said.text
            await known(account, 1, "conversation", "automation")

            await ana.be("available")
            await adapter.publish(message("b-1", "+34600000081", "¿Hay alguien?"))
            talk = await account.conversation("+34600000081", assignee_id=ana.id)

            async def outgoing() -> list[str]:
                return [m["text"] for m in await account.messages(talk["id"]) if m["kind"] == "outgoing"]

            (answer,) = await until(outgoing, "the answer out of hours")
            assert answer.startswith("Volvemos el ")
            assert answer.endswith(" a las 00:00.")
            # A machine gets none, and neither does who has had one; what comes after both is the proof.
            await adapter.publish(
                message("b-2", "+34600000082", "Estoy de vacaciones").model_copy(update={"automatic": True})
            )
            machine = await account.conversation("+34600000082")
            await adapter.publish(message("b-3", "+34600000081", "¿Hola?"))
            await adapter.publish(message("b-4", "+34600000083", "Buenas"))
            third = await account.conversation("+34600000083")

            async def answered() -> bool:
                return any(m["kind"] == "outgoing" for m in await account.messages(third["id"]))

            await until(answered, "the answer to the third customer")
            assert await outgoing() == [answer]
            assert all(m["kind"] != "outgoing" for m in await account.messages(machine["id"]))

            await ana.api.post(f"/conversations/{talk['id']}/messages", {"text": "Aquí estoy."})
            # From here on it is open: what was measured before stays.
            edited = await api.patch(f"/calendars/{calendar['id']}", json={"special_days": []})
            assert edited.json()["version"] == 2
            await known(account, 2, "conversation")
            await ana.api.post(f"/conversations/{talk['id']}/resolve")

            async def numbers() -> dict[str, Any] | None:
                period = {"since": began.isoformat(), "until": (now() + timedelta(minutes=1)).isoformat()}
                told = await account.admin.get("/reports/summary", **period, business_hours="true")
                found = {one["metric"]: one for one in told["metrics"]}
                return found if found["resolution"]["count"] else None

            found = await until(numbers, "the resolution in the report")
            assert found is not None
            assert (found["first_response"]["count"], found["first_response"]["sum"]) == (1, 0)
            assert found["resolution"]["sum"] > 0
            asked = {"since": began.isoformat(), "until": (now() + timedelta(minutes=1)).isoformat()}
            facts = {
                metric: (await account.admin.get("/reports/facts", **asked, metric=metric))["items"][0]
                for metric in ("first_response", "resolution")
            }
            assert [facts[name]["calendar_version"] for name in ("first_response", "resolution")] == [1, 2]
            assert facts["first_response"]["value"] > facts["first_response"]["business_value"] == 0
            # The clock measured both moments; all of them was open by the version that counted at the end.
            assert facts["resolution"]["business_value"] == facts["resolution"]["value"]
