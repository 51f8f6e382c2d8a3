"""A run that is killed (SIGKILL) again and again, also in the middle of writing a checkpoint, and started again
ends with the parameters and reports of one that was left alone, bit for bit."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.optim import killed

KILLS = 24  # for each rule, beside those of new interpreters
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")


def fork(path, rule):
    """A child that trains. It knows what is in the file, and nothing else. (process id, where to read events)."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            killed.train(path, rule, killed.speak_to(writing))
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    return child, reading


def kill_after(process, descriptor, events, wait):
    """Kill it after so many events and a while. Returns the last event, or b"" if it had ended before."""
    last = b""
    for _ in range(events):
        last = os.read(descriptor, 1)
        if not last:
            return last
    time.sleep(wait)
    os.kill(process, signal.SIGKILL)
    return last


def new_interpreter(path, rule, **pipes):
    return subprocess.Popen([sys.executable, "-m", "tests.optim.killed", str(path), rule], cwd=ROOT, **pipes)


@pytest.mark.parametrize("rule", killed.RULES)
def test_killed_and_restarted_until_done(rule, tmp_path, one_thread):
    expected = killed.train(tmp_path / "unbroken.pt", rule)
    path, chance = tmp_path / "killed.pt", random.Random(rule)
    kills, last, resumed = 0, [], set()
    while kills < KILLS:
        if path.exists():
            done = torch.load(path, weights_only=True)["done"]  # never half a file
            resumed.add(done)
            if done == killed.STEPS:  # it was quicker than the killing: once more from the start
                path.unlink()
        child, events = fork(path, rule)
        last.append(kill_after(child, events, chance.randint(1, 9), chance.uniform(0, 0.004)))
        _, status = os.waitpid(child, 0)
        os.close(events)
        if last[-1]:
            assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0  # it may have ended meanwhile
            kills += os.WIFSIGNALED(status)
        else:
            assert os.WEXITSTATUS(status) == 0
    assert {b"s", b"w"} <= set(last)
    assert any(0 < done < 12 for done in resumed)
    assert any(12 < done < killed.STEPS for done in resumed)

    if rule == killed.RULES[0]:  # and in new interpreters, which take their time to start
        path.unlink()
        with new_interpreter(path, rule, stdout=subprocess.PIPE) as process:
            assert kill_after(process.pid, process.stdout.fileno(), 12, 0.001)
        assert process.returncode == -signal.SIGKILL
        assert new_interpreter(path, rule, stdout=subprocess.DEVNULL).wait() == 0
    result = killed.train(path, rule)
    assert result["reports"] == expected["reports"]
    assert len(result["reports"]) == killed.STEPS
    for name, tensor in expected["model"].items():
        assert torch.equal(result["model"][name], tensor)
    ours, theirs = result["opt"]["state"], expected["opt"]["state"]
    for index, entry in theirs.items():
        for name, value in entry.items():
            torch.testing.assert_close(ours[index][name], value, rtol=0, atol=0, equal_nan=True)
