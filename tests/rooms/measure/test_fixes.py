"""Mending: what is safe is done, says how to undo it, and is done once."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from recorded_trees import grow

from edgeward.kit.clock import SystemClock
from edgeward.measure import doctor, examination, fixes

POLICY = "sys/devices/system/cpu/cpufreq/policy"
CPU_GROUP = Path("/sys/fs/cgroup/cpu")


@pytest.fixture
def gateway(intel_box: Path) -> Path:
    return grow(intel_box, {
        f"{POLICY}0/scaling_governor": "powersave\n", f"{POLICY}4/scaling_governor": "schedutil\n",
        "proc/sys/kernel/sched_rt_runtime_us": "-1\n",
        "proc/swaps": "Filename Type Size Used Priority\n/dev/mmcblk0p3 partition 102396 0 -2\n",
        "proc/sys/vm/swappiness": "60\n",
    })  # fmt: skip


def wanted(root: Path) -> tuple[fixes.Fix, ...]:
    facts = examination.gather(SystemClock(), root, ())
    return fixes.fixes_for(doctor.examine(facts), facts, root)


def run_doctor(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "edgeward", "doctor", *arguments],
        env={**os.environ, **environment}, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_each_fix_does_it_says_how_to_undo_it_and_is_not_offered_again(gateway: Path) -> None:
    done = [fixes.apply(one, gateway) for one in wanted(gateway)]
    assert all(one.done for one in done), done
    assert (gateway / f"{POLICY}4/scaling_governor").read_text().strip() == "performance"
    assert (gateway / "proc/sys/kernel/sched_rt_runtime_us").read_text().strip() == "950000"
    undos = {one.undo for one in done}
    assert f"echo schedutil | sudo tee /{POLICY}4/scaling_governor" in undos
    assert "sudo sysctl vm.swappiness=60" in undos
    assert wanted(gateway) == ()


def test_the_command_mends_says_so_and_has_nothing_to_do_the_second_time(gateway: Path) -> None:
    first = run_doctor("--fix", "--yes", "--root", str(gateway))
    assert "done     governor: CPU governor powersave → performance" in first.stdout
    assert "undo: sudo sysctl vm.swappiness=60" in first.stdout
    assert "4 of 4 mended" in first.stdout
    second = run_doctor("--fix", "--yes", "--root", str(gateway))
    assert second.stdout.startswith("nothing to mend")


def test_without_a_terminal_nothing_is_mended_unasked(gateway: Path) -> None:
    done = run_doctor("--fix", "--root", str(gateway))
    assert done.returncode == 2
    assert "edgeward doctor --fix --yes" in done.stderr
    assert (gateway / "proc/sys/vm/swappiness").read_text() == "60\n"


def test_a_fix_that_may_not_be_done_says_so_and_changes_nothing(gateway: Path) -> None:
    fix = fixes.Fix(check="x", does="x", undo="x", files=(f"{POLICY}0/scaling_governor", "proc/none/x"), text="1")
    told = fixes.apply(fix, gateway)
    assert not told.done
    assert "proc/none/x" in told.reason
    assert (gateway / f"{POLICY}0/scaling_governor").read_text() == "powersave\n"


def test_a_command_that_is_not_there_or_fails_is_told() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root runs commands that mend")
    missing = fixes.apply(fixes.Fix(check="x", does="x", undo="u", command=("no-such-command",)))
    failing = fixes.apply(fixes.Fix(check="x", does="x", undo="u", command=("ls", "/nowhere/at/all")))
    assert (missing.done, missing.reason) == (False, "there is no no-such-command on this machine")
    assert not failing.done
    assert "No such file" in failing.reason


def test_a_user_who_is_not_root_is_told_what_it_needs(gateway: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    code = (
        "import os\nfrom pathlib import Path\nfrom edgeward.measure import fixes\nos.setuid(65534)\n"
        "print(fixes.apply(fixes.Fix(check='x', does='x', undo='u', files=('etc/x',), text='1'), Path('/')).reason)\n"
        "print(fixes.apply(fixes.Fix(check='x', does='x', undo='u', command=('true',))).reason)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.count("it needs root: sudo edgeward doctor --fix") == 2, done.stderr


@pytest.mark.slow
def test_a_group_without_a_real_time_budget_is_found_and_mended_for_real() -> None:
    """In a control group of this kernel that really refuses SCHED_FIFO, where there is one."""
    group = CPU_GROUP / f"edgeward-test-{os.getpid()}"
    try:
        group.mkdir()
        budget = int((group / "cpu.rt_runtime_us").read_text())
    except OSError:
        pytest.skip("no cgroup of version 1 with RT_GROUP_SCHED that may be written: a kernel with it, and root")
    try:
        assert budget == 0
        inside = f"echo $$ > {group}/cgroup.procs; exec {sys.executable} -m edgeward doctor"
        before = subprocess.run(["sh", "-c", inside], capture_output=True, text=True)
        assert "rt-group: RT_GROUP_SCHED: this control group may not run anything in real time" in before.stdout
        assert "real-time: this user may not run in real time: Operation not permitted" in before.stdout
        mended = subprocess.run(["sh", "-c", f"{inside} --fix --yes"], capture_output=True, text=True)
        assert f"undo: echo 0 | sudo tee {group}/cpu.rt_runtime_us" in mended.stdout
        after = subprocess.run(["sh", "-c", f"{inside} --all"], capture_output=True, text=True)
        assert "real-time: this user may run in real time" in after.stdout
    finally:
        group.rmdir()
        Path("/etc/security/limits.d/edgeward-rtprio.conf").unlink(missing_ok=True)


def test_a_ctrl_c_at_a_question_keeps_what_was_done_and_begins_nothing_more(gateway: Path) -> None:
    leader, follower = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "edgeward", "doctor", "--fix", "--root", str(gateway)],
        stdin=follower, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.write(leader, b"y\n")
    assert process.stdout is not None
    assert process.stdout.readline().startswith("done     ")
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped; nothing half-written" in told
    assert len(wanted(gateway)) == 3
    os.close(leader)
    os.close(follower)
