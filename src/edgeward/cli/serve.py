"""edgeward serve: verified bundles behind the Open Inference Protocol."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeward.cli import console
from edgeward.cli.paths import PATH
from edgeward.kit.errors import Unsupported, WrongInput

if TYPE_CHECKING:
    from edgeward.serve import Application, Companion, ServedModel


@click.command()
@click.argument("bundles", nargs=-1, required=True, type=PATH, metavar="BUNDLE...")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to serve on; 0.0.0.0 is every one.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option("--threads", type=click.IntRange(1), metavar="N", help="Threads per model; default: as it was measured.")
@click.option("--key", "keys", multiple=True, type=PATH, metavar="PUB", help="Trust this public key only.")
@click.option(
    "--max-request-bytes", type=click.IntRange(1), metavar="N", help="The largest body taken; default: 64 MiB or more."
)
@click.option(
    "--max-waiting", default=64, show_default=True, type=click.IntRange(1), metavar="N",
    help="Requests a model may have waiting; the next is told to come back later.",
)  # fmt: skip
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(0, min_open=True), metavar="S",
    help="A request that has waited so long is not run; default: it waits until its turn.",
)  # fmt: skip
@click.option(
    "--batch", type=click.IntRange(2, 1024), metavar="N", help="Up to N samples that wait run together, if it pays."
)
@click.option(
    "--batch-wait", "batch_wait_ms", default=0.0, type=click.FloatRange(0, 1000), metavar="MS",
    help="How long the first sample of a batch waits for others; default: for none.",
)  # fmt: skip
@click.option("--client-requests", type=click.IntRange(1), metavar="N", help="Requests under way of one address.")
@click.option("--client-bytes", type=click.IntRange(1), metavar="N", help="Bytes of them in memory.")
@click.option(
    "--socket", "local", type=PATH, metavar="PATH", help="Also a Unix socket with shared memory, for this user."
)
@click.option("--socket-group", metavar="GROUP", help="The members of this group may use the Unix socket too.")
@click.option(
    "--grpc-port", type=click.IntRange(0, 65535), metavar="N", help="Also gRPC (the extra grpc), on the same host."
)
@click.option(
    "--mqtt", metavar="URL",
    help="Also requests by MQTT (the extra mqtt): mqtt://BROKER/PREFIX, answered on PREFIX/MODEL/answer/ID.",
)  # fmt: skip
@click.option("--mqtt-password-file", type=PATH, metavar="FILE", help="The password of the user in that URL.")
@click.option("--otlp", metavar="URL", help="Send metrics there by OTLP over HTTP (the extra otlp).")
@click.option(
    "--otlp-every", "otlp_every_s", default=60.0, show_default=True, type=click.FloatRange(0.1), metavar="S",
    help="How often.",
)  # fmt: skip
@click.option("--show-frames", is_flag=True, help="The page shows the last picture and its boxes to whoever opens it.")
@click.option(
    "--repository-api", is_flag=True, help="Programs here may load and unload bundles (Triton's repository API)."
)
def command(
    bundles: tuple[Path, ...],
    host: str,
    port: int,
    threads: int | None,
    keys: tuple[Path, ...],
    max_request_bytes: int | None,
    max_waiting: int,
    timeout_s: float | None,
    batch: int | None,
    batch_wait_ms: float,
    client_requests: int | None,
    client_bytes: int | None,
    local: Path | None,
    socket_group: str | None,
    repository_api: bool,
    show_frames: bool,
    grpc_port: int | None,
    mqtt: str | None,
    mqtt_password_file: Path | None,
    otlp: str | None,
    otlp_every_s: float,
) -> None:
    """Answer requests over HTTP: Open Inference Protocol v2, /metrics for Prometheus, a live page at /.

    Every bundle is verified and passes its self-test first. SIGTERM or Ctrl-C stops it after the requests under way.
    SIGHUP reads the bundles anew; a changed one takes the old place without a request lost.

    \b
    edgeward serve out/bundle
    edgeward serve out/bundle --host 0.0.0.0 --port 9000
    curl -s http://127.0.0.1:8000/v2/models/digits
    """
    from edgeward import serve
    from edgeward.cli.fitting import fitting_bundle

    if socket_group is not None and local is None:
        raise WrongInput("--socket-group is of the Unix socket", hint="--socket PATH --socket-group GROUP")
    if mqtt_password_file is not None and mqtt is None:
        raise WrongInput("--mqtt-password-file is of a broker", hint="--mqtt mqtt://USER@BROKER/PREFIX")
    if batch_wait_ms and batch is None:
        raise WrongInput("--batch-wait is of batches", hint="--batch 8 --batch-wait 2")
    with serve.bind(host, port) as listener:
        together = None if batch is None else serve.Batch(batch, batch_wait_ms / 1e3)
        repository = serve.Repository(keys, threads, together, console.note)
        models = repository.open(fitting_bundle(one) for one in bundles)
        limits = serve.Limits(
            request_bytes=max_request_bytes or serve.enough_request_bytes(models),
            waiting=max_waiting,
            timeout_s=timeout_s or math.inf,
            client_requests=client_requests or 0,
            client_bytes=client_bytes or 0,
        )
        url = serve.url_of(listener)
        frames = serve.Frames() if show_frames else None
        app = serve.create_app(models, limits, repository=repository if repository_api else None, frames=frames)
        repository.attach(app)
        companions: list[serve.Companion] = []
        if local is not None:
            companions.append(serve.LocalServer(local, app.catalog, limits, group=_group(socket_group), frames=frames))
        companions.append(serve.Watchdog(lambda: app.models, url))
        if grpc_port is not None:
            companions.append(_grpc(app, host, grpc_port))
        if mqtt is not None:
            companions.append(_mqtt(app, mqtt, mqtt_password_file))
        if otlp is not None:
            companions.append(_otlp(app, otlp, otlp_every_s))
        finished = serve.serve(app, listener, lambda: _tell_ready(models, url, local), companions, repository.reload)
    if not finished:
        console.note(f"edgeward: stopped with a request still running after {serve.STOP_S} s, or at a second Ctrl-C")
        os._exit(1)  # Python would wait for the thread that runs it


def _grpc(app: "Application", host: str, port: int) -> "Companion":
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what it writes of a fault beside the sentence that we tell
    try:
        from edgeward.serve.rpc import GrpcServer
    except ModuleNotFoundError as error:
        raise Unsupported(f"gRPC needs the package {error.name!r}", hint="pip install 'edgeward[grpc]'") from error
    return GrpcServer(app, host, port)


def _mqtt(app: "Application", url: str, password_file: Path | None) -> "Companion":
    try:
        from edgeward.serve.mqtt_link import LinkOptions
        from edgeward.serve.mqtt_server import MqttServer
    except ModuleNotFoundError as error:
        raise Unsupported(f"MQTT needs the package {error.name!r}", hint="pip install 'edgeward[mqtt]'") from error
    if password_file is not None and "@" not in url:
        raise WrongInput(
            "--mqtt-password-file is a user's, and the URL names none", hint="--mqtt mqtt://USER@BROKER/PREFIX"
        )
    return MqttServer(app, LinkOptions(url=url, password_file=None if password_file is None else str(password_file)))


def _otlp(app: "Application", url: str, every_s: float) -> "Companion":
    if not url.startswith(("http://", "https://")):
        raise WrongInput(f"--otlp takes a URL, got {url!r}", hint="--otlp http://collector:4318/v1/metrics")
    try:
        from edgeward.serve.otlp import OtlpExporter
    except ModuleNotFoundError as error:
        raise Unsupported(f"OTLP needs the package {error.name!r}", hint="pip install 'edgeward[otlp]'") from error
    return OtlpExporter(lambda: app.models, url, every_s)


def _group(name: str | None) -> int | None:
    if name is None:
        return None
    import grp

    try:
        return grp.getgrnam(name).gr_gid
    except KeyError as error:
        raise WrongInput(f"this machine has no group {name!r}", hint="getent group") from error


def _tell_ready(models: "Sequence[ServedModel]", url: str, local: Path | None) -> None:
    for model in models:
        console.note(f"serving {model.name} {model.version} at {url}/v2/models/{model.name}")
    if local is not None:
        console.note(f"serving local clients at {local}")
