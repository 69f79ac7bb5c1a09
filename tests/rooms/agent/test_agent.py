"""The agent with real bundles, a real store and its self-tests in processes of their own."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from agent_parts import Device, make
from msgspec.structs import replace

from edgeward import bundle
from edgeward.agent.run import Agent
from edgeward.bundle.assembly import Said
from edgeward.bundle.variants import join
from edgeward.kit.errors import Failed, Refused, Unavailable, Unsupported, WrongInput

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def test_a_new_bundle_is_taken_and_the_one_before_is_kept(device: Device) -> None:
    first = device.offer("1.0.0")
    assert "runs and has proved itself" in device.agent.once()
    assert device.agent.once() == "up to date"
    second = device.offer("1.1.0")
    device.agent.once()
    assert (device.runs, device.store.previous("doubler")) == (second, first)
    assert device.service.ran == ["1.0.0", "1.1.0"]
    third = device.offer("1.2.0")
    device.agent.once()
    assert sorted(path.name for path in device.store.root.glob("bundles/*")) == sorted(
        one.replace(":", "-") for one in (second, third)
    )


@pytest.mark.parametrize("how", ["ailing", "broken"])
def test_what_does_not_do_is_stepped_back_from_and_not_taken_again(device: Device, how: str) -> None:
    first = device.offer("0.9.0")
    device.agent.once()
    good = device.offer("1.0.0")
    device.agent.once()
    getattr(device.service, how).add("1.1.0")
    device.offer("1.1.0")
    with pytest.raises(Failed, match="stepped back"):
        device.agent.once()
    assert device.runs == good
    assert device.service.ran == ["0.9.0", "1.0.0", "1.1.0", "1.0.0"]
    assert "failed here before" in device.agent.once()
    assert device.service.ran[-1] == "1.0.0"
    assert device.store.previous("doubler") == first, "what one could go back to is still there"


def test_one_that_fails_its_self_test_never_runs(device: Device) -> None:
    good = device.offer("1.0.0")
    device.agent.once()
    device.offer("1.1.0", gain=3.0)
    with pytest.raises(Failed, match=r"the self-test did not pass: .* misses its self-test"):
        device.agent.once()
    assert device.runs == good
    assert device.service.ran == ["1.0.0"]


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda d: d.offer("0.9.0"), r"is older \(0.9.0\) than what ran here already"),
        (lambda d: d.offer("1.1.0", name="door"), "this device runs 'doubler'"),
        (lambda d: make(d.source, None, "1.1.0"), "is not signed"),
        (lambda d: make(d.source, bundle.create_key(d.folder / "other.key"), "1.1.0"), "signed by an unknown key"),
    ],
)
def test_attacks_are_refused_for_their_reason_and_leave_the_device_as_it_was(device: Device, spoil, sentence) -> None:
    good = device.offer("1.0.0")
    device.agent.once()
    spoil(device)
    with pytest.raises(Refused, match=sentence):
        device.agent.once()
    assert device.runs == good
    assert device.service.ran == ["1.0.0"]
    assert len(list(device.store.root.glob("bundles/*"))) == 1
    assert not list((device.store.root / "agent/doubler").glob("incoming/*"))


def test_what_is_this_device_s_fault_is_not_held_against_a_bundle(device: Device) -> None:
    make(device.source, None, "1.0.0")
    with pytest.raises(Refused, match="is not signed"):
        device.agent.once()
    bundle.sign(device.source, device.key)
    key = Path(device.settings.keys[0])
    key.rename(device.folder / "away")
    with pytest.raises(WrongInput, match="no such key"):
        device.agent.once()
    (device.folder / "away").rename(key)
    assert device.remembers()["failed"] == {}
    assert "no such key" in device.remembers()["trouble"]
    assert "runs and has proved itself" in device.agent.once()


def test_a_bundle_for_another_target_is_refused(tmp_path: Path) -> None:
    device = Device(tmp_path, targets=("raspberry-pi-5",))
    device.offer("1.0.0", targets=("jetson-orin",))
    with pytest.raises(Refused, match=r"is for jetson-orin; this device is raspberry-pi-5"):
        device.agent.once()
    assert device.runs is None


def test_an_altered_byte_is_refused(device: Device) -> None:
    device.offer("1.0.0")
    blob = max((device.source / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    blob.write_bytes(bytes([blob.read_bytes()[0] ^ 1]) + blob.read_bytes()[1:])
    with pytest.raises(Refused):
        device.agent.once()
    assert device.runs is None


def test_a_source_that_is_gone_is_waited_for(device: Device) -> None:
    good = device.offer("1.0.0")
    device.agent.once()
    device.source.rename(device.folder / "away")
    for _ in range(3):
        with pytest.raises(Unavailable, match="is not there"):
            device.agent.once()
    assert device.remembers()["tries_in_vain"] == 3
    assert device.runs == good
    (device.folder / "away").rename(device.source)
    assert device.agent.once() == "up to date"
    assert device.remembers()["tries_in_vain"] == 0


def test_a_stick_is_found_by_a_pattern(tmp_path: Path) -> None:
    device = Device(tmp_path)
    settings = {**{f: getattr(device.settings, f) for f in device.settings.__struct_fields__}}
    stick = Agent(
        type(device.settings)(**{**settings, "source": f"{tmp_path}/media/*/bundle"}), device.store, device.service,
        device.clock, device.clock.advance,
    )  # fmt: skip
    with pytest.raises(Unavailable, match="no such stick is there"):
        stick.once()
    device.offer("1.0.0")
    shutil.copytree(device.source, tmp_path / "media/blue/bundle")
    assert "runs and has proved itself" in stick.once()


def test_updates_can_be_held_and_rolled_back_by_hand(device: Device) -> None:
    first = device.offer("1.0.0")
    device.agent.once()
    with pytest.raises(WrongInput, match="no bundle before this one"):
        device.agent.rollback()
    device.agent.hold(held=True)
    second = device.offer("1.1.0")
    assert "updates are held" in device.agent.once()
    assert "updates are held" in device.agent.check()
    device.agent.hold(held=False)
    device.agent.once()
    assert device.runs == second
    device.agent.rollback()
    assert device.runs == first
    assert "it was rolled back by hand" in device.agent.once()


def test_a_trial_that_a_power_cut_ended_is_watched_again(device: Device) -> None:
    first = device.offer("1.0.0")
    device.agent.once()
    second = device.offer("1.1.0")
    device.service.ailing.add("1.1.0")

    def cut(_: float) -> None:
        raise KeyboardInterrupt

    device.service.ailing.clear()
    cut_agent = Agent(device.settings, device.store, device.service, device.clock, cut)
    with pytest.raises(KeyboardInterrupt):
        cut_agent.once()
    assert device.runs == second
    device.service.ailing.add("1.1.0")
    with pytest.raises(Failed, match="did not do: it crashed; stepped back"):
        device.agent.once()
    assert device.runs == first


def test_a_quota_stops_what_would_fill_the_disk(tmp_path: Path) -> None:
    device = Device(tmp_path, quota_bytes=1)
    device.offer("1.0.0")
    device.agent.once()
    device.offer("1.1.0")
    with pytest.raises(Failed, match="nothing more is fetched"):
        device.agent.once()


def test_a_damaged_memory_is_put_aside(device: Device) -> None:
    device.offer("1.0.0")
    device.agent.once()
    state = device.store.root / "agent/doubler/state.json"
    state.write_bytes(b"\0" * 10)
    assert device.agent.once() == "up to date"
    assert state.with_suffix(".damaged").exists()


@pytest.fixture
def machine_with_echo(tmp_path: Path) -> str:
    """A Python whose `edgeward probe` says what a machine with the runtime "echo" would say; else it is this one."""
    found = json.loads(subprocess.run([sys.executable, "-m", "edgeward", "probe", "--no-peaks", "--json"],
                                      check=True, capture_output=True).stdout)  # fmt: skip
    found["runtimes"].append({"name": "echo", "version": "1", "works": True, "reason": "", "providers": []})
    (tmp_path / "machine.json").write_text(json.dumps(found))
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\necho "$3" >> {tmp_path}/asked\n'
        f'[ "$3" = probe ] && exec cat {tmp_path}/machine.json\nexec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    return str(python)


def test_of_several_variants_the_one_that_fits_is_pinned_and_after_it_failed_the_next(
    tmp_path: Path, machine_with_echo: str
) -> None:
    device = Device(tmp_path, python=machine_with_echo)
    wrong, right = (make(tmp_path / str(gain), device.key, gain=gain) for gain in (3.0, 2.0))
    join([wrong, right], device.source, bundle.trusted_keys([bundle.public_path_of(device.key.path)]))
    with pytest.raises(Failed, match="the self-test did not pass"):
        device.agent.once()
    assert "runs and has proved itself" in device.agent.once()
    assert device.runs == bundle.peek(right).digest
    assert device.remembers()["pinned"]["variant"] == device.runs
    asked = (tmp_path / "asked").read_text().split()
    assert asked == ["probe", "verify", "probe", "verify"]
    assert device.agent.once() == "up to date"
    assert device.agent.check() == "up to date"
    assert (tmp_path / "asked").read_text().split() == asked, "what was pinned is not asked again"
    assert not list((device.store.root / "bundles").glob(bundle.peek(wrong).digest.replace(":", "-")))


def test_where_every_variant_failed_the_device_is_not_asked_again_at_each_look(
    tmp_path: Path, machine_with_echo: str
) -> None:
    device = Device(tmp_path, python=machine_with_echo)
    both = [make(tmp_path / str(gain), device.key, gain=gain) for gain in (3.0, 2.5)]
    join(both, device.source, bundle.trusted_keys([bundle.public_path_of(device.key.path)]))
    for _ in both:
        with pytest.raises(Failed, match="the self-test did not pass"):
            device.agent.once()
    for _ in range(3):
        assert "failed here before" in device.agent.once()
    assert (tmp_path / "asked").read_text().split().count("probe") == 3


def test_variants_of_which_none_fits_are_told_and_nothing_is_fetched(device: Device) -> None:
    one, other = (make(device.folder / str(gain), device.key, gain=gain) for gain in (2.0, 2.5))
    join([one, other], device.source, bundle.trusted_keys([bundle.public_path_of(device.key.path)]))
    with pytest.raises(Unsupported, match="echo does not run on"):
        device.agent.once()
    assert "echo does not run on" in device.agent.state.trouble
    assert device.runs is None


def test_what_is_far_slower_than_on_such_a_device_is_not_taken(tmp_path: Path) -> None:
    device = Device(tmp_path, targets=("golden-target",))
    good = device.offer("1.0.0", targets=("golden-target",))
    device.agent.once()
    make(tmp_path / "next", device.key, "1.1.0", targets=("golden-target",))
    figures = bundle.peek(GOLDEN / "bundle-v1-good").manifest.measurement
    model = bundle.peek(tmp_path / "next").manifest.model.files[0].digest
    fast = replace(figures, model=model, latency=replace(figures.latency, p50_ms=1e-7))
    shutil.rmtree(device.source)
    device.source.mkdir()
    bundle.reassemble(tmp_path / "next", device.source, device.clock.now(), Said(measurements=(fast,)))
    bundle.sign(device.source, device.key)
    with pytest.raises(Failed, match=r"the self-test passed, and yet: an inference takes .* times what was measured"):
        device.agent.once()
    assert device.runs == good
