"""A machine read from what its kernel's files say, laid out elsewhere."""

import json
from pathlib import Path

import msgspec
import pytest

from edgeward.kit.errors import Failed
from edgeward.measure import accelerators, conditions, snapshot
from edgeward.measure.afar import _LINKS, PATTERNS, Entry, lay_out


def taken(root: Path) -> dict[str, Entry]:
    """A snapshot as it arrives."""
    patterns = [*PATTERNS, *(node for family in accelerators.FAMILIES for node in family.nodes)]
    sent = json.dumps(snapshot.files(root, patterns, list(_LINKS)))
    return msgspec.json.decode(sent, type=dict[str, Entry])


def test_a_board_reads_the_same_from_its_snapshot(tmp_path: Path) -> None:
    board, copy = tmp_path / "board", tmp_path / "copy"
    files = {
        "proc/cpuinfo": "processor : 0\nFeatures : fp asimd asimddp\n",
        "proc/device-tree/model": "Raspberry Pi 5\0",
        "proc/device-tree/compatible": "raspberrypi,5-model-b\0brcm,bcm2712\0",
        "sys/class/thermal/thermal_zone0/temp": "61234\n",
        "sys/class/thermal/cooling_device0/type": "cpufreq-cpu0\n",
        "sys/class/thermal/cooling_device0/cur_state": "2\n",
        "sys/devices/pci0/0000:01:00.0/vendor": "0x1e60\n",
        "sys/devices/pci0/0000:01:00.0/device": "0x2864\n",
        "dev/hailo0": "",
    }
    for name, text in files.items():
        (board / name).parent.mkdir(parents=True, exist_ok=True)
        (board / name).write_text(text)
    (board / "sys/bus/pci/devices").mkdir(parents=True)
    (board / "sys/bus/pci/drivers/hailo_pci").mkdir(parents=True)
    (board / "sys/bus/pci/devices/0000:01:00.0").symlink_to("../../../devices/pci0/0000:01:00.0")
    (board / "sys/devices/pci0/0000:01:00.0/driver").symlink_to("../../../bus/pci/drivers/hailo_pci")
    copy.mkdir()
    lay_out(copy, taken(board), "pi")
    assert conditions.conditions(copy) == conditions.conditions(board)
    assert conditions.conditions(copy).throttled_now
    assert accelerators.find(copy) == accelerators.find(board)
    assert accelerators.find(copy)[0].driver == "hailo_pci"


@pytest.mark.parametrize("name", ["/etc/passwd", "../beside", "a/../../beside", "a\0b"])
def test_a_device_cannot_write_beside_the_tree(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(Failed, match="under a name that is none"):
        lay_out(root, {name: Entry(file="")}, "pi")
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


def test_a_link_leads_nowhere_else(tmp_path: Path) -> None:
    root, beside = tmp_path / "root", tmp_path / "beside"
    root.mkdir()
    beside.mkdir()
    with pytest.raises(Failed, match="cannot be kept"):
        lay_out(root, {"a": Entry(link=str(beside)), "a/b": Entry(file="aGk=")}, "pi")
    assert list(beside.iterdir()) == []


@pytest.mark.parametrize("entry", [Entry(file="no base64!"), Entry(file="abc")])
def test_damaged_content_is_told(tmp_path: Path, entry: Entry) -> None:
    with pytest.raises(Failed, match="cannot be kept"):
        lay_out(tmp_path, {"a": entry}, "pi")
