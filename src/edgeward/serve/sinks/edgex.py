"""Results to an EdgeX message bus, as events of a device; with the profile that makes them queryable."""

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from edgeward.kit import files
from edgeward.serve.edgex import Names, message_of, profile_of
from edgeward.serve.mqtt_link import LinkOptions
from edgeward.serve.publisher import Publisher
from edgeward.serve.sinks.base import Outlet, Result, Sink


class EdgexOptions(LinkOptions):
    """The `device` is the pipeline's name where nothing else is said. `base64_payload` is what v3 expects; v4 takes
    both. `profile_file` is where the device profile is written, for core-metadata."""

    service: str = "edgeward"
    profile: str = "edgeward-inference"
    device: str | None = None
    base64_payload: bool = False
    profile_file: str | None = None
    keep: Annotated[int, Meta(ge=1, le=100_000)] = 1000


class Device:
    def __init__(self, options: EdgexOptions, pipeline: str) -> None:
        self._options = options
        self._names = Names(options.service, options.profile, options.device or pipeline, "result")
        self._publisher = Publisher(options, qos=1, retain=False, keep=options.keep)
        self._profile: Path | None = Path(options.profile_file) if options.profile_file else None

    def write(self, result: Result) -> None:
        if self._profile is not None:
            files.write_atomic(self._profile, profile_of(result, self._names))
            self._profile = None
        message = message_of(result, self._names, base64_payload=self._options.base64_payload)
        self._publisher.publish(self._names.topic, message)

    def close(self) -> None:
        self._publisher.close()


class Edgex:
    options = EdgexOptions

    def open(self, options: EdgexOptions, pipeline: str) -> Outlet:
        return Device(options, pipeline)


plugin: Sink = Edgex()
