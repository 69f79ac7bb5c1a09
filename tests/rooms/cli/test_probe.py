"""`edgeward probe` and `edgeward doctor`, as a person starts them."""

import json
import os
import shutil
import subprocess
import sys
import tomllib

import pytest

from edgeward.kit import codec
from edgeward.records.target import Finding, Machine, Target


def edgeward(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", "from edgeward.cli.main import main; main()", *arguments],
        env={**os.environ, "COLUMNS": "80", **environment},
        capture_output=True,
        text=True,
    )


def test_json_is_one_machine_record_and_nothing_else():
    done = edgeward("probe", "--no-peaks", "--json")
    assert done.returncode == 0, done.stderr
    found = codec.from_json(done.stdout.encode(), Machine, "the answer")
    assert found.peaks is None
    assert found.cpu_count >= 1


def test_the_peaks_are_in_the_record():
    found = codec.from_json(edgeward("probe", "--json").stdout.encode(), Machine, "the answer")
    assert found.peaks is not None
    assert found.peaks.fp32_gflops_one > 0


def test_people_get_tables_that_fit_a_terminal():
    done = edgeward("probe", "--no-peaks")
    assert done.returncode == 0, done.stderr
    assert "onnxruntime" in done.stdout
    assert "echo" not in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 80


def test_a_saved_target_reads_back_and_saving_again_replaces_it(tmp_path):
    path = tmp_path / "target.toml"
    for _ in range(2):
        done = edgeward("probe", "--no-peaks", "--save", str(path))
        assert done.returncode == 0, done.stderr
        assert codec.from_toml(path, Target).memory_bytes > 0
    assert tomllib.loads(path.read_text())["runtimes"]["onnxruntime"].startswith(">=")
    assert list(tmp_path.iterdir()) == [path]


def test_the_doctor_mends_its_own_machine_alone_and_says_so():
    done = edgeward("doctor", "pi@kitchen.local", "--fix")
    assert done.returncode == 4
    assert "ssh -t pi@kitchen.local edgeward doctor --fix" in done.stderr


def test_a_host_that_does_not_answer_is_told_and_no_profile_is_written(tmp_path):
    if shutil.which("ssh") is None:
        pytest.skip("ssh is missing: apt-get install openssh-client")
    done = edgeward("probe", "nobody@127.0.0.1:1", "--save", str(tmp_path / "target.toml"))
    assert done.returncode == 5
    assert "nobody@127.0.0.1:1 cannot be reached" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_this_machine_may_be_named():
    assert edgeward("probe", "localhost", "--no-peaks", "--json").returncode == 0


@pytest.mark.parametrize("place", ["missing/target.toml", "."])
def test_a_place_that_cannot_be_written_is_refused_in_one_sentence(tmp_path, place):
    done = edgeward("probe", "--no-peaks", "--save", str(tmp_path / place))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"edgeward: {tmp_path}")
    assert "Traceback" not in done.stderr


def test_a_file_system_that_refuses_is_told_by_the_name_that_the_person_gave():
    done = edgeward("probe", "--no-peaks", "--save", "/proc/target.toml")
    assert done.returncode == 2
    assert done.stderr.startswith("edgeward: /proc/target.toml: ")


def test_the_doctor_lists_findings_and_ends_with_1_only_for_a_problem():
    done = edgeward("doctor", "--json")
    findings = codec.from_json(done.stdout.encode(), tuple[Finding, ...], "the answer")
    assert {"python", "runtime-onnxruntime", "telemetry", "memory", "disk", "clock"} <= {one.check for one in findings}
    assert done.returncode == int(any(one.level == "problem" for one in findings))


def test_the_doctor_prints_the_command_that_mends_whole(tmp_path):
    (tmp_path / "file").write_text("x")
    done = edgeward("doctor", XDG_CONFIG_HOME=str(tmp_path / "file"))
    assert f"mkdir -p {tmp_path}/file/edgeward && ls -ld {tmp_path}/file/edgeward" in done.stdout


def test_privacy_names_the_collector_and_its_state():
    contacts = json.loads(edgeward("doctor", "--privacy", "--json").stdout)
    (ours,) = [one for one in contacts if one["part"] == "onnxruntime"]
    assert not ours["state"].startswith(("ON", "UNKNOWN"))
    shown = edgeward("doctor", "--privacy").stdout
    assert all(host in shown for host in ours["hosts"])


def test_a_telemetry_switch_that_the_user_turned_back_is_turned_off_again():
    done = edgeward("doctor", "--privacy", "--json", ORT_DISABLE_TELEMETRY="0")
    assert '"ON' not in done.stdout


def test_a_terminal_without_utf_8_gets_its_table_too():
    done = edgeward("probe", "--no-peaks", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "onnxruntime" in done.stdout
