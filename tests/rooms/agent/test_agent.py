"""The agent with real bundles, a real store and its self-tests in processes of their own."""

import shutil
from pathlib import Path

import pytest
from agent_parts import Device, make

from edgeward import bundle
from edgeward.agent.run import Agent
from edgeward.kit.errors import Failed, Refused, Unavailable, WrongInput


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
