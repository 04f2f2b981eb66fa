"""Samples where a service's interpreter spends its CPU. Python imports this by itself in processes whose PYTHONPATH
names this folder: those of `relevo bench --profile`. Standard library only.

Every few milliseconds of CPU that the process uses, the kernel signals it; the stack that is then running counts once
for the function at its top (self) and once for each function in it (with callees). Time in C counts for the caller.
"""

import atexit
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

_EVERY_SECONDS = 0.005
_KEPT = 200


def _start(folder: Path, service: str) -> None:
    alone: Counter[str] = Counter()
    within: Counter[str] = Counter()

    def name(frame: FrameType) -> str:
        code = frame.f_code
        path = code.co_filename
        for root in ("/site-packages/", "/src/", "/lib/"):
            if root in path:
                path = path.rpartition(root)[2]
                break
        return f"{path}:{code.co_qualname if hasattr(code, 'co_qualname') else code.co_name}"

    def sample(_number: int, frame: FrameType | None) -> None:
        if frame is None:
            return
        alone[name(frame)] += 1
        seen = set()
        while frame is not None:
            seen.add(name(frame))
            frame = frame.f_back
        within.update(seen)

    def restart(_number: int, _frame: FrameType | None) -> None:
        alone.clear()
        within.clear()

    def write() -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        text = json.dumps(
            {
                "samples": alone.total(),
                "seconds": alone.total() * _EVERY_SECONDS,
                "self": alone.most_common(_KEPT),
                "with_callees": within.most_common(_KEPT),
            }
        )
        (folder / f"{service}-{os.getpid()}.json").write_text(text)

    signal.signal(signal.SIGPROF, sample)
    signal.signal(signal.SIGUSR2, restart)
    signal.setitimer(signal.ITIMER_PROF, _EVERY_SECONDS, _EVERY_SECONDS)
    atexit.register(write)


_folder = os.environ.get("RELEVO_BENCH_SAMPLES")
if _folder and sys.orig_argv[-1:] == ["serve"]:
    _start(Path(_folder), sys.orig_argv[-2].removeprefix("relevo."))
