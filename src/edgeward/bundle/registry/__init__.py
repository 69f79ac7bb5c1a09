"""Bundles in registries that speak the OCI distribution protocol, and in layouts on a disk or stick."""

from edgeward.bundle.registry.client import Access, Registry
from edgeward.bundle.registry.fetch import Choose, Fetched, fetch
from edgeward.bundle.registry.push import Pushed, push
from edgeward.bundle.registry.reference import Place, Reference, parse

__all__ = ["Access", "Choose", "Fetched", "Place", "Pushed", "Reference", "Registry", "fetch", "parse", "push"]
