"""The inference service over gRPC: the Open Inference Protocol's own service, with raw tensors or typed contents."""

import asyncio
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from edgeward.kit.errors import Failed, WrongInput
from edgeward.serve import grpc_messages, protocol
from edgeward.serve.http import SERVER, Application
from edgeward.serve.intake import Refusal, refusal_of
from edgeward.serve.models import ServedModel
from edgeward.serve.protocol import Asked as AskedOutput
from edgeward.serve.protocol import Port, Request
from edgeward.serve.running import Ran
from edgeward.serve.stats import Spent

_HEAD_BYTES = 1 << 16
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
_CONTENTS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip

Context = Any  # of grpc.aio, which has no types of its own


class GrpcServer:
    """A companion of the HTTP server: the same models and limits, at an address of its own."""

    def __init__(self, app: Application, host: str, port: int) -> None:
        self._app = app
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._messages = grpc_messages.messages()
        self.port = port

    def start(self) -> None:
        most = self._app.limits.request_bytes + _HEAD_BYTES
        options = [
            ("grpc.max_receive_message_length", most),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
        ]
        self._server = grpc.aio.server(options=options)
        methods = {name: self._method(name) for name in grpc_messages.METHODS}
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(grpc_messages.SERVICE, methods),),
        )
        try:
            self.port = self._server.add_insecure_port(self._address)
        except RuntimeError as error:
            raise Failed(f"{self._address}: cannot be had for gRPC", hint="--grpc-port with another") from error
        self._started = asyncio.ensure_future(self._server.start())

    async def stop(self) -> None:
        await self._started
        await self._server.stop(grace=30)

    def _method(self, name: str) -> Any:
        answers: Mapping[str, Callable[[Any, Context], Any]] = {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            "ServerMetadata": self._metadata,
            "ModelReady": self._model_ready,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._infer,
        }
        return grpc.unary_unary_rpc_method_handler(
            answers[name],
            request_deserializer=self._messages[f"{name}Request"].FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )

    async def _live(self, _: Any, __: Context) -> Any:
        return self._messages["ServerLiveResponse"](live=True)

    async def _ready(self, _: Any, __: Context) -> Any:
        return self._messages["ServerReadyResponse"](ready=self._app.ready)

    async def _metadata(self, _: Any, __: Context) -> Any:
        return self._messages["ServerMetadataResponse"](**SERVER)

    async def _model_ready(self, request: Any, _: Context) -> Any:
        try:
            self._app.catalog.find(request.name, request.version)
        except Refusal:
            return self._messages["ModelReadyResponse"](ready=False)
        return self._messages["ModelReadyResponse"](ready=self._app.ready)

    async def _model_metadata(self, request: Any, context: Context) -> Any:
        try:
            model = self._app.catalog.find(request.name, request.version)
        except Refusal as refusal:
            await context.abort(_CODES[refusal.status], refusal.sentence)
        return self._messages["ModelMetadataResponse"](**self._app.catalog.about(model))

    # --- inference

    async def _infer(self, given: Any, context: Context) -> Any:
        try:
            model = self._app.catalog.find(given.model_name, given.model_version)
        except Refusal as refusal:
            await context.abort(_CODES[refusal.status], refusal.sentence)
        holder = _Holder(context)
        model.stats.in_flight += 1
        refused: Refusal | None = None
        try:
            self._app.clients.enter(holder)
            self._app.clients.hold(holder, given.ByteSize())
            reply = await self._answered(given, model, holder, context.time_remaining())
            model.stats.ended(200)
        except Exception as error:  # noqa: BLE001 - a client gets a sentence, whatever it was
            refused = refusal_of(error, model)
            model.stats.ended(refused.status)
        finally:
            holder.gone = True  # a client that gave up is not answered by the model either
            model.stats.in_flight -= 1
            self._app.clients.release(holder)
        if refused is not None:
            await context.abort(_CODES.get(refused.status, grpc.StatusCode.INTERNAL), refused.sentence)
        return reply

    async def _answered(self, given: Any, model: ServedModel, holder: "_Holder", left_s: float | None) -> Any:
        model.make_room(self._app.limits.waiting)
        request = decode(given, model)
        decoded = perf_counter()
        timeout_us = request.timeout_us if left_s is None else min(request.timeout_us or int(1e12), int(1e6 * left_s))
        deadline_s = self._app.limits.deadline_s(holder.began, timeout_us)
        ran = await model.answer(request.tensors, request.samples, deadline_s, holder)
        answered = perf_counter()
        reply = self._encode(given, request, ran, model)
        done = perf_counter()
        spent = Spent(
            decoded - holder.began + ran.pre_s, ran.infer_s, done - answered + ran.post_s, done - holder.began
        )
        model.stats.answered(spent, request.samples)
        return reply

    def _encode(self, given: Any, request: Request, ran: Ran, model: ServedModel) -> Any:
        reply = self._messages["ModelInferResponse"](
            model_name=model.name, model_version=model.version, id=given.id
        )  # fmt: skip
        for name, array in protocol.chosen(request, ran.outputs, model.signature):
            reply.outputs.add(name=name, datatype=protocol.datatype_of(array), shape=array.shape)
            reply.raw_output_contents.append(protocol.to_binary(array))
        return reply


class _Holder:
    """A request as the limits of clients know it."""

    def __init__(self, context: Context) -> None:
        kind, _, place = context.peer().partition(":")
        self.address = place.rpartition(":")[0].strip("[]") if kind.startswith("ipv") else place
        self.began = perf_counter()
        self.held = 0
        self.entered = False
        self.gone = False
        context.add_done_callback(self._ended)

    def _ended(self, _: Context) -> None:
        self.gone = True


def decode(given: Any, model: ServedModel) -> Request:
    """The request in a message, checked against the model. Raises WrongInput only."""
    raw = given.raw_input_contents
    if raw and len(raw) != len(given.inputs):
        raise WrongInput(f"there are {len(given.inputs)} inputs, and raw_input_contents for {len(raw)}")
    tensors: dict[str, NDArray[Any]] = {}
    count = 0
    for index, one in enumerate(given.inputs):
        port, elements = protocol.check(one.name, one.datatype, one.shape, model.signature, tensors)
        if raw:
            tensor = protocol.raw_tensor(raw[index], 0, len(raw[index]), one.shape, port, elements)
        else:
            tensor = _from_contents(one, port, elements)
        if count not in (0, one.shape[0]):
            raise WrongInput(f"input {one.name!r} has {one.shape[0]} samples, the others have {count}")
        tensors[one.name], count = tensor, one.shape[0]
    missing = next((name for name in model.signature.inputs if name not in tensors), None)
    if missing is not None:
        raise WrongInput(f"input {missing!r} is missing")
    outputs = [AskedOutput(one.name, _number(one.parameters, "classification")) for one in given.outputs]
    timeout_us = _number(given.parameters, "timeout")
    return Request(given.id, tensors, count, protocol.wanted_raw(outputs, model.signature), max(0, timeout_us))


def _number(parameters: Any, name: str) -> int:
    return int(parameters[name].int64_param) if name in parameters else 0


def _from_contents(one: Any, port: Port, elements: int) -> NDArray[Any]:
    if port.datatype not in _CONTENTS:
        raise WrongInput(f"input {port.name!r} is {port.datatype}, which has no typed contents; send it as raw bytes")
    values = getattr(one.contents, _CONTENTS[port.datatype])
    if len(values) != elements:
        raise WrongInput(
            f"input {port.name!r} has {len(values)} values in contents, its shape {[*one.shape]} has {elements}"
        )
    try:
        if port.datatype == "BYTES":
            return np.array([value.decode() for value in values], object).reshape(one.shape)
        return np.array(values, port.dtype).reshape(one.shape)
    except OverflowError as error:
        raise WrongInput(f"input {port.name!r} holds a number that is no {port.datatype}") from error
    except UnicodeDecodeError as error:
        raise WrongInput(f"input {port.name!r}: a string is not UTF-8") from error
