"""A bundle as a pod of Kubernetes, for every form that has one: lines of YAML."""

import json
from collections.abc import Sequence

from edgeward.bundle import containers

_PROBE_S = 5
_MIB = 1 << 20


def _labels(said: containers.Container) -> list[str]:
    version = "".join(letter if letter.isalnum() or letter in "-._" else "_" for letter in said.version)
    return [
        f"app.kubernetes.io/name: {name_of(said)}",
        f"app.kubernetes.io/version: {json.dumps(version[:63])}",
        "app.kubernetes.io/managed-by: edgeward",
    ]


def name_of(said: containers.Container) -> str:
    """Names of services have no dots."""
    return f"edgeward-{said.name.replace('.', '-')}"[:63].rstrip("-")


def daemons(
    said: containers.Container, image: str, selector: Sequence[str], resources: Sequence[str] | None = None,
    model: str = "",
) -> list[str]:  # fmt: skip
    """A pod on every node that `selector` fits, and a service that answers on a node who asks there. `image`, `model`,
    and the lines of `selector` and `resources`, may be a template's."""
    name = name_of(said)
    return [
        "apiVersion: apps/v1",
        "kind: DaemonSet",
        *about(said),
        "spec:",
        f"  selector: {{matchLabels: {{app.kubernetes.io/name: {name}}}}}",
        "  updateStrategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 1}}",
        "  template:",
        "    metadata:",
        "      labels:",
        *_indented(_labels(said), 8),
        "    spec:",
        *_indented(selector, 6),
        *_indented(pod(said, image, resources, model=model), 6),
        "---",
        "apiVersion: v1",
        "kind: Service",
        *about(said),
        "spec:",
        "  internalTrafficPolicy: Local",
        f"  selector: {{app.kubernetes.io/name: {name}}}",
        f"  ports: [{{name: http, port: {said.port}, targetPort: http}}]",
    ]


def about(said: containers.Container) -> list[str]:
    return ["metadata:", f"  name: {name_of(said)}", "  labels:", *_indented(_labels(said), 4)]


def node_label(said: containers.Container) -> str:
    return f"edgeward.io/{said.name}"


def pod(
    said: containers.Container, image: str, resources: Sequence[str] | None = None, *, model: str = "",
    alone: bool = False,
) -> list[str]:  # fmt: skip
    """The spec of a pod; `image`, `model` and the lines of `resources` may be a template's. `alone` it is for Podman,
    which makes calls of curl of probes by HTTP, runs others in a shell, and opens the ports that the pod names."""
    mounted = bool(said.model_image) and not alone
    return [
        "# It asks nothing of the cluster, and nothing of the cluster is told to it.",
        "automountServiceAccountToken: false",
        "enableServiceLinks: false",
        "securityContext:",
        "  runAsNonRoot: true",
        f"  runAsUser: {containers.USER}",
        f"  runAsGroup: {containers.USER}",
        "  seccompProfile: {type: RuntimeDefault}",
        "containers:",
        "  - name: serve",
        f"    image: {image}",
        "    imagePullPolicy: IfNotPresent",
        *([f"    args: {json.dumps(said.arguments)}"] if said.arguments else []),
        "    env:",
        *(f"      - {{name: {name}, value: {json.dumps(one)}}}" for name, one in containers.environment().items()),
        "    ports:",
        f"      - {{name: http, containerPort: {said.port}{_host_port(said) if alone else ''}}}",
        "    securityContext:",
        "      allowPrivilegeEscalation: false",
        "      readOnlyRootFilesystem: true",
        "      capabilities: {drop: [ALL]}",
        *(
            ["    # No probes: Podman hands them to a shell, and there is none in the image."]
            if alone
            else _probes(said)
        ),
        *_indented(resources or resources_of(said), 4),
        "    volumeMounts:",
        "      - {name: tmp, mountPath: /tmp}",
        *([f"      - {{name: model, mountPath: {containers.BUNDLE}, readOnly: true}}"] if mounted else []),
        *_nodes(said, "    "),
        "volumes:",
        f"  - {{name: tmp, emptyDir: {{medium: Memory, sizeLimit: {containers.TEMPORARY_BYTES // _MIB}Mi}}}}",
        *(_model(model or json.dumps(said.model_image)) if mounted else []),
    ]


def _model(reference: str) -> list[str]:
    return [
        "  # Over the model in the image; an update transfers this alone. Kubernetes 1.35, or its gate ImageVolume.",
        "  - name: model",
        "    image:",
        f"      reference: {reference}",
        "      pullPolicy: IfNotPresent",
    ]


def resources_of(said: containers.Container) -> list[str]:
    devices = [f"{said.grants.resource}: 1"] if said.grants.resource else []
    if said.memory_bytes is None:
        why = "# No limit of memory: this bundle brings no measurement to take it from."
        memory = []
    else:
        why = f"# {containers.WHY_LIMITS}"
        memory = [f"memory: {said.memory_bytes // _MIB}Mi"]
    # Half of what it may take: a node that has no more CPUs than its threads has pods of the system, too.
    requests = [f"cpu: {500 * said.threads}m", *memory]
    limits = [f"cpu: {said.cpus}", *memory, *devices]
    return [why, "resources:", f"  requests: {{{', '.join(requests)}}}", f"  limits: {{{', '.join(limits)}}}"]


def _probes(said: containers.Container) -> list[str]:
    return [
        "    # Ready once every model passed its self-test. The last one fails where nobody answers any more.",
        *_probe("startupProbe", said, "ready", failures=-(-said.start_s // _PROBE_S)),
        *_probe("readinessProbe", said, "ready", failures=1),
        *_probe("livenessProbe", said, "live", failures=6),
    ]


def _host_port(said: containers.Container) -> str:
    host, _, port = said.published.rpartition(":")
    return f", hostPort: {port}, hostIP: {json.dumps(host.strip('[]'))}"


def _probe(kind: str, said: containers.Container, what: str, *, failures: int) -> list[str]:
    return [
        f"    {kind}:",
        f"      httpGet: {{path: /v2/health/{what}, port: {said.port}}}",
        f"      periodSeconds: {_PROBE_S}",
        "      timeoutSeconds: 5",
        f"      failureThreshold: {failures}",
    ]


def _nodes(said: containers.Container, indent: str) -> list[str]:
    """A pod gets devices from a device plugin; where there is none for them, the manifest says so."""
    if not said.grants.nodes or said.grants.resource:
        return []
    nodes = ", ".join(said.grants.nodes)
    return [f"{indent}# No device plugin is known for {nodes}: name the resource of yours in its limits."]


def _indented(lines: Sequence[str], spaces: int) -> list[str]:
    return [f"{' ' * spaces}{line}" for line in lines]
