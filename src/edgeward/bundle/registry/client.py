"""One registry by the OCI distribution protocol (version 1.1): who we are, where it sends us, when it wants us to wait.

A token never leaves the host that it is for: urllib3 drops it where a redirect goes elsewhere, and so do we.
"""

import json
import re
import ssl
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode, urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, MaxRetryError, SSLError

from edgeward import __version__
from edgeward.bundle.layout import INDEX_TYPE, MANIFEST_TYPE
from edgeward.bundle.registry.credentials import credentials_for
from edgeward.bundle.registry.reference import Reference
from edgeward.kit.codec import digest_of
from edgeward.kit.errors import EdgewardError, Failed, Refused, Unavailable, WrongInput

MANIFEST_LIMIT_BYTES = 4 << 20
"""What registries allow at most."""
_PART_BYTES = 1 << 16
_ANSWER_LIMIT_BYTES = 1 << 20
_TIMEOUT = urllib3.Timeout(connect=10, read=60)
_LONGEST_WAIT_S = 60
_TRIES = 5
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


class Access(NamedTuple):
    """How registries are reached. `plain_http` also beyond the loopback; `ca` is a file of certificates to trust
    besides the system's; blobs are asked of `mirrors` first: hosts, or "http://HOST" for one that encrypts nothing and
    is told no login."""

    plain_http: bool = False
    ca: Path | None = None
    mirrors: tuple[str, ...] = ()
    tries: int = _TRIES
    is_anonymous: bool = False


PLAIN = Access()
"""As it comes: encrypted, the system's authorities, no mirrors."""


class Stored(NamedTuple):
    """A manifest or an index as it came: bytes that have this digest."""

    data: bytes
    media_type: str
    digest: str


class Registry:
    """One repository of a registry."""

    def __init__(self, reference: Reference, access: Access = PLAIN, *, actions: str = "pull") -> None:
        self.reference = reference
        self._access = access
        scheme = "http" if access.plain_http or reference.is_near else "https"
        self._root = f"{scheme}://{reference.host}/v2/{reference.name}/"
        self._scope = f"repository:{reference.name}:{actions}"
        self._authorization: str | None = None
        self._pool = _pool(self._root, access)

    # --- what it has

    def manifest(self, wanted: str) -> Stored | None:
        """The manifest of a tag or digest; None where there is none. Raises Refused for bytes of another digest."""
        accept = ", ".join((INDEX_TYPE, MANIFEST_TYPE))
        reply = self._ask("GET", f"manifests/{wanted}", {"Accept": accept}, missing=True)
        if reply is None:
            return None
        with reply:
            data = _bounded(reply, MANIFEST_LIMIT_BYTES, f"{self.reference}: its manifest")
        said, digest = reply.headers.get("Docker-Content-Digest"), digest_of(data)
        pinned = wanted if wanted.startswith("sha256:") else said
        if pinned is not None and pinned != digest:
            raise Refused(f"{self.reference}: the registry gave a manifest with the digest {digest}, wanted {pinned}")
        return Stored(data, reply.headers.get("Content-Type", "").partition(";")[0], digest)

    def blob(self, digest: str, start: int = 0) -> "Parts | None":
        """The bytes of a blob from `start` on, or all of them where the registry cannot; None where it has none."""
        headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
        reply = self._ask("GET", f"blobs/{digest}", headers, missing=True)
        if reply is None:
            return None
        if reply.status == 206:
            first = re.match(r"bytes (\d+)-", reply.headers.get("Content-Range", ""))
            if first is None or int(first[1]) != start:
                reply.close()
                raise Refused(f"{self.reference}: the registry sent another part of {digest} than it was asked for")
            return Parts(start, reply)
        return Parts(0, reply)

    def has_blob(self, digest: str) -> bool:
        reply = self._ask("HEAD", f"blobs/{digest}", missing=True)
        return reply is not None

    def referrers(self, digest: str) -> list[dict[str, Any]]:
        """What belongs to a manifest, as the registry lists it: by its API, or by the tag that stands in for that."""
        reply = self._ask("GET", f"referrers/{digest}", {"Accept": INDEX_TYPE}, missing=True)
        if reply is not None:
            with reply:
                data = _bounded(reply, MANIFEST_LIMIT_BYTES, f"{self.reference}: its list of referrers")
        else:
            kept = self.manifest(fallback_tag(digest))
            if kept is None:
                return []
            data = kept.data
        return _listed(data, f"{self.reference}: its list of referrers")

    # --- what it is given

    def put_manifest(self, wanted: str, data: bytes, media_type: str) -> str | None:
        """Stores it; the digest of its subject, where the registry says that it keeps lists of referrers."""
        reply = self._ask("PUT", f"manifests/{wanted}", {"Content-Type": media_type}, body=data)
        return None if reply is None else reply.headers.get("OCI-Subject")

    def mount(self, digest: str, other: str) -> bool:
        """Whether the registry took a blob over from another of its repositories."""
        query = urlencode({"mount": digest, "from": other})
        reply = self._ask("POST", f"blobs/uploads/?{query}", missing=True)
        return reply is not None and reply.status == 201

    def start_upload(self) -> str:
        """Where a blob goes."""
        return self._location(self._ask("POST", "blobs/uploads/", {"Content-Length": "0"}), self._root)

    def send_part(self, place: str, data: bytes, start: int) -> str:
        """The next part of a blob; where the one after it goes."""
        headers = {"Content-Type": "application/octet-stream", "Content-Range": f"{start}-{start + len(data) - 1}"}
        return self._location(self._ask("PATCH", place, headers, body=data, tries=0), place)

    def sent(self, place: str) -> tuple[int, str]:
        """How many bytes of a blob have arrived, and where the next part goes."""
        reply = self._ask("GET", place)
        until = re.match(r"(?:bytes=)?0-(\d+)", "" if reply is None else reply.headers.get("Range", ""))
        return int(until[1]) + 1 if until else 0, self._location(reply, place)

    def finish_upload(self, place: str, digest: str) -> None:
        mark = "&" if "?" in place else "?"
        self._ask("PUT", f"{place}{mark}{urlencode({'digest': digest})}", {"Content-Length": "0"})

    # --- how it is asked

    def _location(self, reply: urllib3.BaseHTTPResponse | None, base: str) -> str:
        place = None if reply is None else reply.headers.get("Location")
        if place is None:
            raise Failed(f"{self.reference}: the registry does not say where to send a blob")
        return urljoin(base, place)

    def _ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, *, body: bytes | None = None,
        missing: bool = False, tries: int | None = None,
    ) -> urllib3.BaseHTTPResponse | None:  # fmt: skip
        """The reply; with `missing` None for a 404. Who we are is told when the registry asks for it."""
        url = urljoin(self._root, path)
        for attempt in (0, 1):
            reply = self._send(method, url, dict(headers or {}), body, tries)
            if reply.status != 401 or attempt:
                break
            reply.drain_conn()
            self._authorization = self._answer_to(reply.headers.get("WWW-Authenticate", ""))
        if reply.status in (200, 201, 202, 204, 206):
            return reply
        if reply.status == 404 and missing:
            reply.drain_conn()
            return None
        with reply:
            raise self._error(reply)

    def _send(
        self, method: str, url: str, headers: dict[str, str], body: bytes | None, tries: int | None
    ) -> urllib3.BaseHTTPResponse:
        if self._authorization and urlsplit(url).netloc == self.reference.host:
            headers["Authorization"] = self._authorization
        retries = urllib3.Retry(
            total=self._access.tries if tries is None else tries, redirect=5, backoff_factor=0.5, backoff_jitter=0.5,
            status_forcelist=(429, 502, 503, 504), allowed_methods=None, respect_retry_after_header=True,
            retry_after_max=_LONGEST_WAIT_S, raise_on_status=False,
        )  # fmt: skip
        try:
            return self._pool.request(
                method, url, headers=headers, body=body, retries=retries, timeout=_TIMEOUT, preload_content=False,
                decode_content=False,
            )  # fmt: skip
        except HTTPError as error:
            raise _unreachable(self.reference.host, error) from None

    def _answer_to(self, challenge: str) -> str:
        """The Authorization that a registry asks for. Raises Refused where we have none."""
        kind, _, rest = challenge.partition(" ")
        if self._access.is_anonymous:
            raise Refused(f"{self.reference.host} wants a login, and a mirror without encryption is told none")
        said, known = dict(_CHALLENGE.findall(rest)), credentials_for(self.reference.host)
        login = f"podman login {self.reference.host}"
        if kind.lower() == "basic":
            if known is None:
                raise Refused(f"{self.reference.host} wants a login", hint=login)
            return known.basic
        if kind.lower() != "bearer" or "realm" not in said:
            raise Failed(f"{self.reference.host} wants to know who we are in a way we do not know: {challenge[:80]!r}")
        realm = urlsplit(said["realm"])
        if realm.scheme != "https" and realm.netloc != self.reference.host and not self._root.startswith("http:"):
            raise Refused(f"{self.reference.host} sends us to {said['realm']} for a token, which is not encrypted")
        scope = said.get("scope") if self._scope in said.get("scope", "") else self._scope
        query = urlencode({"service": said.get("service", ""), "scope": scope or self._scope})
        headers = {"Authorization": known.basic} if known else {}
        try:
            reply = self._pool.request("GET", f"{said['realm']}?{query}", headers=headers, timeout=_TIMEOUT, retries=2)
        except HTTPError as error:
            raise _unreachable(realm.netloc, error) from None
        token = _token(reply.data) if reply.status == 200 else None
        if token is None:
            with_login = "the login for it is refused" if known else "wants a login"
            raise Refused(f"{self.reference.host}: {with_login}", hint=login)
        return f"Bearer {token}"

    def _error(self, reply: urllib3.BaseHTTPResponse) -> EdgewardError:
        said = _complaint(reply)
        told = f"{self.reference}: the registry answered {reply.status}{f': {said}' if said else ''}"
        if reply.status in (401, 403):
            return Refused(told, hint=f"podman login {self.reference.host}")
        if reply.status == 404:
            return WrongInput(f"{self.reference}: the registry has no such repository or upload")
        if reply.status in (429, 500, 502, 503, 504):
            return Unavailable(f"{told}; {self._access.tries + 1} tries were made")
        return Failed(told)


class Parts:
    """The bytes of a reply, which begin at `start` of the blob."""

    def __init__(self, start: int, reply: urllib3.BaseHTTPResponse) -> None:
        self.start = start
        self._reply = reply

    def __iter__(self) -> Iterator[bytes]:
        """Raises Unavailable where the connection ends before its time."""
        try:
            yield from self._reply.stream(_PART_BYTES, decode_content=False)
        except HTTPError as error:
            raise Unavailable(f"the connection was cut: {error}") from None

    def close(self) -> None:
        self._reply.close()


def fallback_tag(digest: str) -> str:
    """Where registries without a list of referrers have it (OCI distribution 1.1, "referrers tag schema")."""
    return digest.replace(":", "-")


def _pool(url: str, access: Access) -> urllib3.PoolManager:
    context = ssl.create_default_context()
    if access.ca is not None:
        try:
            context.load_verify_locations(access.ca)
        except (OSError, ssl.SSLError) as error:
            raise WrongInput(f"{access.ca}: holds no certificates (PEM): {error}") from None
    parts = urlsplit(url)
    headers = {"User-Agent": f"edgeward/{__version__}"}
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(parts.netloc):
        return urllib3.ProxyManager(proxy, headers=headers, ssl_context=context)
    return urllib3.PoolManager(headers=headers, ssl_context=context)


def _bounded(reply: urllib3.BaseHTTPResponse, limit: int, what: str) -> bytes:
    data = b""
    for part in Parts(0, reply):
        data += part
        if len(data) > limit:
            raise Refused(f"{what} is longer than {limit} bytes")
    return data


def _listed(data: bytes, what: str) -> list[dict[str, Any]]:
    try:
        found = json.loads(data)["manifests"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Refused(f"{what} is no image index") from None
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise Refused(f"{what} is no image index")
    return found


def _token(data: bytes) -> str | None:
    try:
        said = json.loads(data[:_ANSWER_LIMIT_BYTES])
        found = said.get("token") or said.get("access_token")
    except (ValueError, AttributeError):
        return None
    return found if isinstance(found, str) and found.isprintable() else None


def _complaint(reply: urllib3.BaseHTTPResponse) -> str:
    try:
        first = json.loads(reply.read(4096))["errors"][0]
        return " ".join(str(first.get(name, "")) for name in ("code", "message")).strip()[:200]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, HTTPError):
        return ""


def _unreachable(host: str, error: HTTPError) -> Unavailable | Refused:
    cause = error.reason if isinstance(error, MaxRetryError) and error.reason is not None else error
    reason = str(cause).rpartition(": ")[2] or type(cause).__name__
    if isinstance(cause, SSLError):
        return Refused(f"{host}: its certificate is not trusted: {reason}", hint="--ca FILE trusts another authority")
    return Unavailable(f"{host} cannot be reached: {reason}")
