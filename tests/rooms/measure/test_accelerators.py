import grp
import os
import tempfile
from pathlib import Path

import pytest

from edgeward.measure import accelerators

NOBODY = 65534


def by_kind(root, **providers):
    return {found.kind: found for found in accelerators.find(root, **providers)}


def test_a_hailo_on_a_raspberry_pi_is_seen_and_honestly_not_usable(raspberry_pi):
    found = by_kind(raspberry_pi)
    assert set(found) == {"hailo8", "videocore"}
    hailo = found["hailo8"]
    assert (hailo.node, hailo.driver, hailo.usable) == ("/dev/hailo0", "hailo_pci", False)
    assert hailo.reason == "edgeward has no runtime for it; HailoRT 4 drives it"
    assert hailo.name == "Hailo-8 or Hailo-8L at PCI 0001:01:00.0"


def test_a_card_without_its_driver_says_which_one_it_wants(raspberry_pi):
    (raspberry_pi / "sys/bus/pci/devices/0001:01:00.0/driver").unlink()
    (raspberry_pi / "dev/hailo0").unlink()
    assert by_kind(raspberry_pi)["hailo8"].reason.startswith("no kernel driver is bound (wanted: hailo_pci)")


def test_a_driver_without_a_node_is_told(raspberry_pi):
    (raspberry_pi / "dev/hailo0").unlink()
    assert by_kind(raspberry_pi)["hailo8"].reason.startswith("driver hailo_pci is bound, but there is no device node")


def test_a_jetson_gpu_is_seen_by_its_chip_and_node(jetson):
    gpu = by_kind(jetson)["jetson-gpu"]
    assert gpu.node == "/dev/nvhost-gpu"
    assert gpu.reason == "no installed runtime offers CUDAExecutionProvider; TensorRT or CUDA drives it"


def test_npu_and_gpu_of_one_maker_are_told_apart_and_its_sound_chip_is_left_out(intel_box):
    found = by_kind(intel_box)
    assert set(found) == {"intel-npu", "intel-gpu"}
    assert (found["intel-npu"].node, found["intel-npu"].driver) == ("/dev/accel/accel0", "intel_vpu")
    assert (found["intel-gpu"].node, found["intel-gpu"].driver) == ("/dev/dri/renderD128", "i915")


def test_a_rockchip_npu_is_the_render_node_with_its_driver(rock):
    assert (by_kind(rock)["rockchip-npu"].node, by_kind(rock)["rockchip-npu"].driver) == (
        "/dev/dri/renderD129",
        "RKNPU",
    )


def test_a_chip_known_to_have_an_npu_is_told_even_without_a_driver(rock):
    (rock / "sys/class/drm/renderD129/device/driver").unlink()
    npu = by_kind(rock)["rockchip-npu"]
    assert npu.driver is None
    assert npu.reason.startswith("no kernel driver is bound (wanted: rknpu or rocket)")


def test_an_edge_tpu_on_usb_is_seen_with_the_speed_of_its_port(nothing):
    stick = nothing / "sys/bus/usb/devices/2-1"
    stick.mkdir(parents=True)
    for name, value in (
        ("idVendor", "1a6e"),
        ("idProduct", "089a"),
        ("speed", "480"),
        ("busnum", "2"),
        ("devnum", "3"),
    ):
        (stick / name).write_text(value + "\n")
    (nothing / "dev/bus/usb/002").mkdir(parents=True)
    (nothing / "dev/bus/usb/002/003").touch()
    tpu = by_kind(nothing)["edge-tpu"]
    assert tpu.name == "Coral Edge TPU (USB) at USB 2-1 (USB 2: slow for this)"
    assert tpu.node == "/dev/bus/usb/002/003"


def test_a_unit_is_usable_only_where_a_runtime_offers_it_and_we_drive_it(jetson):
    cuda = {"CUDAExecutionProvider"}
    offered_only = by_kind(jetson, offered=cuda)["jetson-gpu"]
    assert not offered_only.usable
    assert "edgeward runs models on the CPU only so far" in offered_only.reason
    driven = by_kind(jetson, offered=cuda, driven=cuda)["jetson-gpu"]
    assert driven.usable
    assert driven.reason == "CUDAExecutionProvider reaches it"


def test_a_machine_with_nothing_has_no_accelerators(nothing):
    assert accelerators.find(nothing) == ()


def test_two_cards_of_one_kind_are_two_entries(raspberry_pi):
    second = raspberry_pi / "sys/bus/pci/devices/0001:02:00.0"
    second.mkdir()
    for name in ("vendor", "device", "class"):
        (second / name).write_bytes((raspberry_pi / f"sys/bus/pci/devices/0001:01:00.0/{name}").read_bytes())
    assert [found.kind for found in accelerators.find(raspberry_pi)].count("hailo8") == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user, who is then refused")
def test_a_node_that_this_user_may_not_open_names_the_group_that_may():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        node = Path(folder) / "renderD128"
        node.touch()
        node.chmod(0o660)
        video = grp.getgrnam("video").gr_gid
        os.chown(node, 0, video)
        assert accelerators.closed_to_user(node) is None
        assert as_nobody(lambda: accelerators.closed_to_user(node)) == "'video'"
        os.chown(node, 0, 54321)
        assert as_nobody(lambda: accelerators.closed_to_user(node)) == "'54321'"


def as_nobody(work):
    """What `work` returns, as text, in a child process that has given up root."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os.write(writing, repr(work()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as answer:
        return answer.read()


def test_a_node_that_is_not_there_is_not_called_closed(tmp_path):
    assert accelerators.closed_to_user(tmp_path / "none") is None
