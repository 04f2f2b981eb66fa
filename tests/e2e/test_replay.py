"""`relevo replay` of the shipped sample: nothing differs, also when a service is killed in the middle of it."""

import os
import signal
import time
from importlib.resources import files
from pathlib import Path

from whole_stack import WholeStack

SAMPLE = Path(str(files("relevo.stack") / "samples" / "conversations.jsonl"))


def test_the_sample_is_replayed_without_a_difference(stack: WholeStack) -> None:
    done = stack.relevo("replay", str(SAMPLE), "--speed", "max")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no difference" in done.stdout


def test_a_service_killed_in_the_middle_changes_nothing(stack: WholeStack) -> None:
    before = stack.running()["conversation"]
    conversations = "select count(*) from conversations"
    already = stack.rows("conversation", conversations)
    process = stack.start_relevo("replay", str(SAMPLE), "--speed", "max")
    while stack.rows("conversation", conversations) == already:
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(before["pid"], signal.SIGKILL)
    said, _ = process.communicate(timeout=100)
    assert process.returncode == 0, said
    assert "no difference" in said
    after = stack.running()["conversation"]
    assert after["restarts"] > before["restarts"]
    assert after["pid"] != before["pid"]
