"""A Helm chart, for K3s, MicroK8s and other clusters: the manifests, with what differs between clusters as values."""

import json
import re

from edgeward.bundle import pods
from edgeward.bundle.packers.base import PackedFile, Packer, Service, container
from edgeward.bundle.verified import VerifiedBundle

_SEMANTIC = re.compile(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")


class Helm:
    def pack(self, bundle: VerifiedBundle, service: Service) -> tuple[PackedFile, ...]:
        said = container(bundle, service)
        name = pods.name_of(said)
        selector = [*_values("nodeSelector", 8), *_values("tolerations", 8)]
        daemons = pods.daemons(
            said, "{{ .Values.image | quote }}", selector, _values("resources", 12), "{{ .Values.modelImage | quote }}"
        )
        chart = [
            "apiVersion: v2",
            f"name: {name}",
            f"description: edgeward serves {said.name}",
            "type: application",
            f"version: {json.dumps(_semantic(said.version))}",
            f"appVersion: {json.dumps(said.version)}",
        ]
        values = [
            f"image: {json.dumps(said.image)}",
            *([f"modelImage: {json.dumps(said.model_image)}"] if said.model_image else []),
            "# It runs on every node that has these labels.",
            f'nodeSelector: {{kubernetes.io/os: linux, {pods.node_label(said)}: "true"}}',
            "tolerations: []",
            *pods.resources_of(said),
        ]
        return (
            _file(f"{name}/Chart.yaml", chart),
            _file(f"{name}/values.yaml", values),
            _file(f"{name}/templates/daemonset.yaml", daemons),
        )


def _values(name: str, spaces: int) -> list[str]:
    return [
        f"{{{{- with .Values.{name} }}}}",
        f"{name}:",
        f"  {{{{- toYaml . | nindent {spaces} }}}}",
        "{{- end }}",
    ]


def _semantic(version: str) -> str:
    """A chart's version has three numbers; what cannot be read so is said in its build part."""
    if found := _SEMANTIC.fullmatch(version):
        numbers = ".".join(str(int(part or 0)) for part in found.groups()[:3])
        return f"{numbers}{found[4] or ''}{found[5] or ''}"
    return f"0.0.0+{re.sub('[^0-9A-Za-z-]+', '-', version)}"


def _file(path: str, lines: list[str]) -> PackedFile:
    return PackedFile(path, "\n".join(["# Written by `edgeward export`.", *lines, ""]).encode())


plugin: Packer = Helm()
