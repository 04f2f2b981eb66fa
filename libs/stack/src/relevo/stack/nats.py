"""The embedded NATS server: JetStream, operator mode (JWT credentials), on loopback only."""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from relevo.stack import room
from relevo.stack.errors import Exit, StackError
from relevo.stack.keys import BusKeys
from relevo.stack.place import Place
from relevo.stack.process import Child, binary, end_leftover, spawn, tail
from relevo.stack.readiness import StreamFill

_READY_SECONDS = 60.0  # a large store is checked at start
_STOP_SECONDS = 20.0
MAX_PAYLOAD_BYTES = 1_048_576


@dataclass(slots=True)
class NatsServer:
    """One broker. `start` answers only once JetStream is ready."""

    place: Place
    port: int
    monitoring_port: int
    keys: BusKeys
    log: Path
    child: Child | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def monitoring_url(self) -> str:
        return f"http://127.0.0.1:{self.monitoring_port}"

    @property
    def pid_file(self) -> Path:
        return self.place.root / "nats.pid"

    def start(self) -> None:
        end_leftover(self.pid_file)
        program = self.place.program(binary("nats-server"))
        folder = self.place.folder("nats")
        for name in ("jetstream", "accounts"):
            self.place.folder(f"nats/{name}")
        text = configuration(
            self.keys,
            listen=f"127.0.0.1:{self.port}",
            monitoring=f"127.0.0.1:{self.monitoring_port}",
            store=folder,
        )
        config = self.place.write(folder / "nats.conf", text)
        self.child = spawn(
            "nats",
            [str(program), "--config", str(config)],
            log=self.log,
            pid_file=self.pid_file,
            run_as=self.place.run_as,
            # It shares the machine with everything else: on two cores, a second thread of Go's mostly looks for work.
            environment={"PATH": "/usr/bin:/bin", "GOMAXPROCS": str(max((os.cpu_count() or 2) // 2, 1))},
        )
        self._wait_ready()

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self.child is not None and self.child.alive()

    def stop(self) -> None:
        if self.child is not None:
            self.child.stop(_STOP_SECONDS)
            self.child = None

    def varz(self) -> dict[str, object]:
        """What the server says of itself."""
        answer = httpx.get(f"{self.monitoring_url}/varz", timeout=5, trust_env=False)
        answer.raise_for_status()
        document: dict[str, object] = answer.json()
        return document

    def fills(self) -> list[StreamFill]:
        """How full the streams of our account are. Raises httpx.HTTPError while the server does not answer."""
        parameters = {"acc": self.keys.account.public, "streams": "true", "config": "true"}
        answer = httpx.get(f"{self.monitoring_url}/jsz", params=parameters, timeout=5, trust_env=False)
        answer.raise_for_status()
        return [
            StreamFill(stream["name"], stream["state"]["bytes"], stream["config"].get("max_bytes", -1))
            for account in answer.json().get("account_details") or ()
            for stream in account.get("stream_detail") or ()
        ]

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        with httpx.Client(trust_env=False, timeout=2) as client:
            while True:
                assert self.child is not None
                if not self.child.alive():
                    raise StackError(f"NATS did not start:\n{tail(self.log)}", code=Exit.FAILED)
                try:
                    if client.get(f"{self.monitoring_url}/healthz").status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                if time.monotonic() > deadline:
                    self.stop()
                    raise StackError(f"NATS is not ready:\n{tail(self.log)}", code=Exit.FAILED)
                time.sleep(0.02)


def configuration(keys: BusKeys, *, listen: str, monitoring: str, store: Path) -> str:
    """The server's configuration file. It holds no private key, but whoever changes it decides whom the broker trusts."""
    return f"""\
server_name: relevo
listen: "{listen}"
http: "{monitoring}"
max_payload: {MAX_PAYLOAD_BYTES}
max_control_line: 16384
ping_interval: "20s"
jetstream {{
  store_dir: {json.dumps(str(store / "jetstream"))}
  # Each stream has its own limit, which can be changed while the server runs.
  max_file_store: {room.MAX_FILE_STORE}
  max_memory_store: 268435456
  # An acknowledged message is on disk: with the default interval a power cut was shown to lose acknowledged ones.
  sync_interval: always
}}
# nats-py stops reading at an acknowledgement subject of the second form.
feature_flags {{ js_ack_fc_v2: false }}
operator: {keys.operator_jwt}
system_account: {keys.system.public}
# "full": the server keeps account JWTs by itself and takes new ones (revocations) while it runs; a newer one on disk
# is not overwritten by those preloaded here.
resolver {{
  type: full
  dir: {json.dumps(str(store / "accounts"))}
  allow_delete: false
  interval: "2m"
}}
resolver_preload {{
  {keys.system.public}: {keys.system_jwt}
  {keys.account.public}: {keys.account_jwt}
}}
"""
