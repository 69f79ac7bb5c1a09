"""Kubernetes manifests: a pod on every node with a label, and one alone, which `podman kube play` starts too."""

import json

from edgeward.bundle import pods
from edgeward.bundle.packers.base import PackedFile, Packer, Service, container
from edgeward.bundle.verified import VerifiedBundle


class Kubernetes:
    def pack(self, bundle: VerifiedBundle, service: Service) -> tuple[PackedFile, ...]:
        said = container(bundle, service)
        image, label = json.dumps(said.image), pods.node_label(said)
        everywhere = [
            f"# Written by `edgeward export`. It runs on every node with the label {label}=true:",
            f"#   kubectl label node NODE {label}=true && kubectl apply -f daemonset.yaml",
            *pods.daemons(said, image, [f'nodeSelector: {{kubernetes.io/os: linux, {label}: "true"}}']),
            "",
        ]
        alone = [
            "# Written by `edgeward export`: one pod, for `podman kube play pod.yaml`.",
            "apiVersion: v1",
            "kind: Pod",
            *pods.about(said),
            "spec:",
            *(f"  {line}" for line in pods.pod(said, image, alone=True)),
            "",
        ]
        return (
            PackedFile("daemonset.yaml", "\n".join(everywhere).encode()),
            PackedFile("pod.yaml", "\n".join(alone).encode()),
        )


plugin: Packer = Kubernetes()
