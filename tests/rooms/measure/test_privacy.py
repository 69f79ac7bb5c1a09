import os

from edgeward.measure import privacy


def package(tmp_path, data: bytes):
    (tmp_path / "capi").mkdir()
    (tmp_path / "capi/libonnxruntime.so.1").write_bytes(data)
    return tmp_path


def test_what_is_installed_here_is_switched_off():
    (found,) = [contact for contact in privacy.contacts() if contact.part == "onnxruntime"]
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
    # Official wheels name a collector; builds of a distribution or of one's own may not.
    assert found.state.startswith("off:" if found.hosts else "no collector")


def test_edgeward_itself_names_no_host():
    assert all(contact.hosts == () for contact in privacy.contacts() if contact.part.startswith("edgeward"))


def test_a_collector_inside_a_library_is_found_with_its_whole_name(tmp_path):
    data = b"\0ORT_DISABLE_TELEMETRY\0" + b"x" * 9999 + b"https://mobile.events.data.microsoft.com/OneCollector\0"
    found = privacy.onnxruntime_contact(package(tmp_path, data), "1")
    assert found.hosts == ("mobile.events.data.microsoft.com",)
    assert found.state.startswith("off:")
    assert found.mentions == ()


def test_a_collector_that_is_not_switched_off_is_said_to_be_on(tmp_path):
    folder = package(tmp_path, b"ORT_DISABLE_TELEMETRY\0//eu.events.data.microsoft.com/")
    assert privacy.onnxruntime_contact(folder, None).state.startswith("ON:")
    assert privacy.onnxruntime_contact(folder, "0").state.startswith("ON:")


def test_a_build_that_does_not_know_the_switch_is_not_called_silent(tmp_path):
    found = privacy.onnxruntime_contact(package(tmp_path, b"x.events.data.microsoft.com"), "1")
    assert found.state.startswith("UNKNOWN:")


def test_links_in_texts_are_told_apart_from_collectors(tmp_path):
    found = privacy.onnxruntime_contact(package(tmp_path, b"see https://arxiv.org/abs/1 and notsentry.io"), "1")
    assert found.hosts == ()
    assert found.mentions == ("arxiv.org",)
    assert found.state == "no collector in this build"


def test_an_installation_without_libraries_is_not_called_silent(tmp_path):
    assert privacy.onnxruntime_contact(tmp_path, "1").state.startswith("UNKNOWN:")
    assert privacy.onnxruntime_contact(package(tmp_path, b""), "1").hosts == ()


def test_a_package_that_is_not_installed_contacts_nobody():
    assert privacy.package_folder("no_such_package") is None
    assert privacy.onnxruntime_contact(None, "1").state == "absent"
