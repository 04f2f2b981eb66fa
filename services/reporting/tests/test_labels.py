"""Reports by label, groups, and reports as files."""

import csv
import io
import random
from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from relevo.chassis.testing import running
from relevo.contracts.base import new_id
from relevo.contracts.conversation import (
    ConversationOpened,
    ConversationReopened,
    ConversationResolved,
    LabelChanged,
    LabelsChanged,
    LabelState,
)
from relevo.contracts.identity import AgentChanged, AgentState
from relevo.contracts.metrics import BY_LABEL, RATES
from relevo.contracts.permissions import Permission
from relevo.reporting import download
from relevo.reporting.app import build
from relevo.reporting.domain.files import harmless, read_out

from .samples import ACCOUNT, AGENT, NOON, conversation, incoming, reply
from .test_service import PERIOD, _key, _summary, _tell

MORNING = NOON - timedelta(hours=3)


def _labelled_late():
    """A conversation of two cycles: the label is put on in the second one, after its first messages. And one without."""
    one, other = new_id(), new_id()
    first = {"id": one, "labels": (), "opened_at": MORNING, "cycle": 1}
    second = {"id": one, "labels": (), "opened_at": NOON, "cycle": 2}
    vip = {**second, "labels": ("vip",)}
    plain = {"id": other, "labels": (), "opened_at": MORNING}
    return [
        (ConversationOpened(conversation=conversation(**first)), MORNING),
        (incoming(snapshot=conversation(**first)), MORNING),
        (ConversationResolved(conversation=conversation(**first, resolved_at=MORNING)), MORNING + timedelta(hours=1)),
        (ConversationReopened(conversation=conversation(**second)), NOON),
        (incoming(snapshot=conversation(**second)), NOON + timedelta(minutes=1)),
        (LabelsChanged(conversation=conversation(**vip), added=("vip",)), NOON + timedelta(minutes=2)),
        (incoming(snapshot=conversation(**vip)), NOON + timedelta(minutes=3)),
        (LabelsChanged(conversation=conversation(**second), removed=("vip",)), NOON + timedelta(minutes=4)),
        (incoming(snapshot=conversation(**second)), NOON + timedelta(minutes=5)),
        (ConversationOpened(conversation=conversation(**plain)), MORNING),
        (incoming(snapshot=conversation(**plain)), MORNING),
    ]


def _counts(found):
    return {metric: one["count"] for metric, one in found.items() if one["count"]}


async def _label(service, key, sequence=1, id_=None, **more):
    label = LabelState(id=id_ or new_id(), account_id=ACCOUNT, key=key, name=more.pop("name", key), **more)
    await service.admin.publish(LabelChanged(label=label), account=ACCOUNT, entity=label.id, sequence=sequence)
    await service.settle()
    return label.id


async def test_a_label_put_on_late_counts_for_its_cycle_in_whatever_order_events_come(servers) -> None:
    expected = {"conversations_reopened": 1, "messages_in": 2, "labels_added": 1}
    for seed in (None, 1):
        async with running(build, servers) as service:
            headers = await _key(service, Permission.REPORTS_ALL) | {"Accept-Language": "es"}
            story = _labelled_late()
            if seed is not None:
                random.Random(seed).shuffle(story)
            await _tell(service, story)
            id_ = await _label(service, "vip")
            await _label(service, "vip", 2, id_, name="Cuentas clave")
            for name in ("vip", "cuentas CLAVE"):
                assert _counts(await _summary(service, headers, label=name)) == expected, name
            assert _counts(await _summary(service, headers, label="nunca")) == {}
            assert _counts(await _summary(service, headers))["messages_in"] == 5
            asked = {**PERIOD, "label": "vip", "metric": "messages_in"}
            hours = {**asked, "bucket": "hour", "tz": "Europe/Madrid"}
            series = (await service.http.get("/reports/series", params=hours, headers=headers)).json()
            assert {p["start"]: p["count"] for p in series["points"] if p["count"]} == {"2026-03-02T12:00:00Z": 2}
            facts = (await service.http.get("/reports/facts", params=asked, headers=headers)).json()["items"]
            assert [fact["at"] for fact in facts] == ["2026-03-02T12:01:00Z", "2026-03-02T12:03:00Z"]
            named = {**PERIOD, "label": "vip"}
            summary = (await service.http.get("/reports/summary", params=named, headers=headers)).json()
            assert summary["label"] == {"key": "vip", "name": "Cuentas clave", "definition": BY_LABEL["es"]}
            assert "wait_in_queue" not in {one["metric"] for one in summary["metrics"]}
            refused = await service.http.get(
                "/reports/series", params={**hours, "metric": "wait_in_queue"}, headers=headers
            )
            assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/query/metric")
            own = await _key(service, Permission.REPORTS_OWN)
            assert _counts(await _summary(service, own, label="vip")) == {}


async def test_groups_add_up_and_a_merged_label_brings_its_past(servers) -> None:
    async with running(build, servers) as service:
        headers = await _key(service, Permission.REPORTS_ALL) | {"Accept-Language": "es"}
        agent = AgentState(id=AGENT, account_id=ACCOUNT, name="=Eva", email="e@example.com", role_id=new_id())
        await service.admin.publish(AgentChanged(agent=agent, deleted=True), account=ACCOUNT, entity=AGENT, sequence=1)
        two = {"labels": ("queja", "vip"), "first_reply_at": NOON}
        story = [
            *_labelled_late(),
            (reply(snapshot=conversation(**two), first_reply=True, answered_since=NOON - timedelta(hours=1)), NOON),
        ]
        await _tell(service, story)

        async def groups(by, **more):
            answer = await service.http.get("/reports/groups", params={**PERIOD, "by": by, **more}, headers=headers)
            assert answer.status_code == 200, answer.text
            rows = answer.json()["groups"]
            return {row["name"]: _counts({one["metric"]: one for one in row["metrics"]}) for row in rows}

        everything = _counts(await _summary(service, headers))
        for by in ("agent", "team", "inbox", "channel"):
            total = {}
            for counts in (await groups(by)).values():
                for metric, n in counts.items():
                    total[metric] = total.get(metric, 0) + n
            assert total == everything, by
        assert "=Eva" in await groups("agent"), "who left is still called by their name"
        for name, counts in (await groups("label")).items():
            assert counts == _counts(await _summary(service, headers, label=name)), name
        vip = await _label(service, "vip")
        await _label(service, "queja")
        assert set(await groups("label")) == {"vip", "queja"}
        await _label(service, "vip", 2, vip, into_key="queja")
        merged = await groups("label")
        assert set(merged) == {"queja"}
        assert merged["queja"]["messages_in"] == 2
        assert merged["queja"]["messages_out"] == 1, "what had both counts once"
        assert merged["queja"] == _counts(await _summary(service, headers, label="vip"))


async def test_every_report_is_a_file(servers, monkeypatch) -> None:
    monkeypatch.setattr(download, "PAGE", 3)
    async with running(build, servers) as service:
        headers = await _key(service, Permission.REPORTS_ALL)
        agent = AgentState(id=AGENT, account_id=ACCOUNT, name='=1+"1",\n', email="e@example.com", role_id=new_id())
        await service.admin.publish(AgentChanged(agent=agent), account=ACCOUNT, entity=AGENT, sequence=1)
        replies = (
            (reply(answered_since=NOON - timedelta(seconds=3600 * n)), NOON + timedelta(seconds=n)) for n in range(1, 9)
        )
        await _tell(service, [*_labelled_late(), *replies])

        async def file(name, language="es", **asked):
            answer = await service.http.get(
                f"/reports/{name}/file", params={**PERIOD, **asked}, headers=headers | {"Accept-Language": language}
            )
            assert answer.status_code == 200, answer.text
            assert answer.headers["content-type"] == "text/csv; charset=utf-8"
            assert answer.content.count(b"\n") - answer.content.count(b"\r\n") == answer.content.count(b',\n"')
            return list(csv.reader(io.StringIO(answer.text, newline=""))), answer

        rows, answer = await file("summary")
        assert answer.headers["content-disposition"] == 'attachment; filename="summary-20260302-20260303.csv"'
        assert rows[0][:4] == ["Métrica", "Código", "Unidad", "Número"]
        told = {row[1]: row for row in rows[1:]}
        found = await _summary(service, headers)
        rates = {code: told.pop(code) for code in RATES}
        assert {code: int(row[3]) for code, row in told.items()} == {code: one["count"] for code, one in found.items()}
        assert [rates["bot_handoff_rate"][0], *rates["bot_handoff_rate"][2:6]] == [
            "Tasa de traspaso del bot",
            "proporción",
            "0",
            "0",
            "",
        ]
        assert told["reply_time"][5:7] == ["16200.0", "4:30:00"]
        assert told["first_response"][5:] == [""] * 5, "nothing happened: no number"

        english, answer = await file("summary", "en", bom=True, delimiter="semicolon")
        assert answer.content.startswith(b"\xef\xbb\xbfMetric;Code;Unit;Count;")
        assert len(english) == len(rows)

        asked = {"metric": "messages_in", "bucket": "hour", "tz": "Europe/Madrid"}
        series, _ = await file("series", **asked)
        assert series[0][:3] == ["Inicio (Europe/Madrid)", "Mensajes recibidos", "Suma"]
        assert [row for row in series[1:] if row[1] != "0"] == [
            ["2026-03-02T10:00:00+01:00", "2", "2", "", ""],
            ["2026-03-02T13:00:00+01:00", "3", "3", "", ""],
        ]
        assert len(series) == 25

        heat, _ = await file("heatmap", metric="messages_in", tz="Europe/Madrid")
        assert heat[0][:5] == [
            *("Día de la semana", "Hora (Europe/Madrid)", "Horas del periodo", "Mensajes recibidos", "Suma")
        ]
        assert [row for row in heat[1:] if row[3] != "0"] == [
            ["1", "10", "1.0", "2", "2", "", ""],
            ["1", "13", "1.0", "3", "3", "", ""],
        ]
        assert len(heat) == 169

        groups, _ = await file("groups", by="agent")
        assert groups[1][0] == '\'=1+"1",\n', "no formula"
        facts, _ = await file("facts", metric="reply_time", tz="America/Mexico_City")
        assert facts[0][0] == "Momento (America/Mexico_City)"
        assert [row[2] for row in facts[1:]] == [f"{3600.0 * n}" for n in range(1, 9)], "each once, over three pages"
        assert {row[4] for row in facts[1:]} == {'\'=1+"1",\n'}
        assert facts[1][0] == "2026-03-02T06:00:01-06:00"
        params = {**PERIOD, "metric": "reply_time", "format": "parquet"}
        answer = await service.http.get("/reports/facts/file", params=params, headers=headers)
        assert answer.headers["content-disposition"].endswith('reply_time-20260302-20260303.parquet"')
        table = parquet.read_table(io.BytesIO(answer.content))
        assert [table["value"].to_pylist(), table["agent"][0].as_py()] == [
            [3600.0 * n for n in range(1, 9)],
            '=1+"1",\n',
        ]
        assert table["at"][0].as_py() == datetime.fromisoformat(facts[1][0])
        assert str(table.schema.field("at").type) == "timestamp[us, tz=UTC]"
        nothing = await service.http.get("/reports/facts/file", params=params | {"metric": "sla_met"}, headers=headers)
        assert parquet.read_table(io.BytesIO(nothing.content)).num_rows == 0
        own = await _key(service, Permission.CONTACTS_READ)
        zoned = {"metric": "messages_in", "tz": "Europe/Madrid"}
        for name, more in (
            ("summary", {}),
            ("series", asked),
            ("heatmap", zoned),
            ("groups", {"by": "label"}),
            ("facts", zoned),
        ):
            answer = await service.http.get(f"/reports/{name}/file", params={**PERIOD, **more}, headers=own)
            assert answer.status_code == 403, name


def test_seconds_are_read_out() -> None:
    assert [read_out(value) for value in (None, 0, 59.6, 3723, 90_000)] == [
        None,
        "0:00:00",
        "0:01:00",
        "1:02:03",
        "25:00:00",
    ]


@given(st.one_of(st.text(), st.floats(allow_nan=False), st.integers(), st.none()))
def test_no_cell_is_a_formula_and_numbers_stay_numbers(cell) -> None:
    shown = harmless(cell)
    if isinstance(cell, str):
        assert not shown.startswith(("=", "+", "-", "@", "\t", "\r"))
        assert shown in {cell, f"'{cell}"}
    else:
        assert shown is cell
