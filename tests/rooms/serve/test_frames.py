"""Pictures are shown only where the user asked for it, and then the last one with its boxes."""

import asyncio
import io
import json

import numpy as np
from PIL import Image
from test_pictures import RED, encoded, model

from edgeward.serve import Application, Frames, Limits, create_app
from edgeward.serve.connection import Answer, Asked


def get(app: Application, path: str, body: bytes = b"") -> Answer:
    async def asked() -> Answer:
        one = Asked("127.0.0.1")
        one.method, one.url, one.body = (b"POST" if body else b"GET"), path.encode(), body
        one.headers = {b"content-type": b"image/png"} if body else {}
        answer = app.opened(one) or app.answer(one)
        if not isinstance(answer, Answer):
            answer = await answer
        app.closed(one)
        return answer

    return asyncio.run(asked())


def test_no_picture_is_kept_unless_asked_for() -> None:
    app = create_app([model()], Limits())
    assert get(app, "/v2/models/m/infer", encoded(RED, "PNG")).status == 200
    answer = get(app, "/v2/models/m/frame")
    assert (answer.status, b"--show-frames" in answer.body) == (404, True)
    assert "frame" not in json.loads(get(app, "/v2/models/stats").body)["model_stats"][0]


def test_the_last_picture_is_shown() -> None:
    app = create_app([model()], Limits(), frames=Frames())
    assert b"has seen no picture yet" in get(app, "/v2/models/m/frame").body
    assert get(app, "/v2/models/m/infer", encoded(RED, "PNG")).status == 200
    frame = json.loads(get(app, "/v2/models/stats").body)["model_stats"][0]["frame"]
    assert frame == {"number": 1, "width": 8, "height": 8, "boxes": []}
    shown = np.asarray(Image.open(io.BytesIO(get(app, "/v2/models/m/frame").body)))
    assert np.abs(shown.astype(int) - RED).max() < 20
    assert get(app, "/v2/models/m/infer", encoded(RED, "PNG")).status == 200
    assert json.loads(get(app, "/v2/models/stats").body)["model_stats"][0]["frame"]["number"] == 1
