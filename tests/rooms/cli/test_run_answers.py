"""What `edgeward run` says of masks, key points and anomalies, in its table and in its JSON."""

import json
import sys

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from edgeward.cli.main import main

MODELS = {
    "segment": """<ir_version: 8, opset_import: ["": 17]>
      m (float[batch,8,8,3] image) => (float[batch,8,8,3] scores) { scores = Identity (image) }""",
    "keypoints": """<ir_version: 8, opset_import: ["": 17]>
      m (float[batch,8,8,3] image) => (float[batch,3,8,8] heat) {
        heat = Transpose <perm = [0, 3, 1, 2]> (image) }""",
    "anomaly": """<ir_version: 8, opset_import: ["": 17]>
      m (float[batch,8,8,3] image) => (float[batch,8,8,3] again) { again = Mul (image, zero) }""",
}
READ = {
    "segment": 'type = "segment"\nlayout = "pixels"',
    "keypoints": 'type = "keypoints"\nform = "heat_maps"\nscore_threshold = 100',
    "anomaly": 'type = "anomaly"\nof = "mae"\nthreshold = 50',
}
STEPS = '[[preprocess]]\ntype = "resize"\nheight = 8\nwidth = 8\n[[postprocess]]\n'


@pytest.fixture
def answered(tmp_path, monkeypatch, capfd):
    """Packs a model whose answer is the picture itself, read in one way, and answers a picture: in JSON, in words."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "configuration"))

    def edgeward(*arguments):
        with monkeypatch.context() as during:
            during.setattr(sys, "argv", ["edgeward", *map(str, arguments)])
            with pytest.raises(SystemExit) as end:
                main()
        done = capfd.readouterr()
        assert end.value.code == 0, done.err
        return done.out

    def answer(kind):
        from PIL import Image

        model = parser.parse_model(MODELS[kind])
        model.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "zero"))
        onnx.save(model, "m.onnx")
        (tmp_path / "steps.toml").write_text(STEPS + READ[kind])
        (tmp_path / "labels.txt").write_text("red\ngreen\nblue\n")
        picture = np.zeros((16, 16, 3), np.uint8)
        picture[:8, :, 0], picture[8:, :4, 1] = 200, 220
        Image.fromarray(picture).save("picture.png")
        edgeward("pack", "m.onnx", "--preprocess", "steps.toml", "--labels", "labels.txt", "-o", "bundle")
        edgeward("sign", "bundle")
        ask = ("run", "bundle", "-i", "picture.png")
        return json.loads(edgeward(*ask, "--json")), edgeward(*ask)

    return answer


def test_a_mask_has_the_size_of_the_picture_and_comes_with_its_areas(answered):
    line, table = answered("segment")
    (green,) = line["segments"]  # red is the background, number 0
    assert green["label"] == "green"
    assert green["mask"]["size"] == [16, 16]
    assert green["area"] == sum(green["mask"]["counts"][1::2])
    assert 32 <= green["area"] <= 48  # 32, and what bilinear filtering spreads by a cell
    assert f"green {green['share']:.1%}" in table


def test_key_points_lie_in_pixels_of_the_picture(answered):
    line, table = answered("keypoints")
    red, green = line["keypoints"]
    assert (red["label"], red["y"]) == ("red", 1)
    assert (green["label"], green["x"]) == ("green", 1)
    assert green["y"] > 8
    assert "red 1,1, green 1," in table


def test_a_verdict_says_how_far_the_picture_is_from_what_was_made_of_it(answered):
    line, table = answered("anomaly")
    verdict = line["anomaly"]
    assert verdict["score"] == pytest.approx((128 * 200 + 32 * 220) / 768, rel=0.05)
    assert verdict["is_anomaly"] is False
    assert "normal" in table
