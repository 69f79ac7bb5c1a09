"""What runs on a device, as root, while something is delivered there: plain Python, standard library only.

The text of this file is what ssh starts. It answers requests on its standard input, one JSON message each. What it
takes lies in a folder that only root reads, by digest; a cut connection leaves what came so far, to go on from.
"""

import compileall
import contextlib
import errno
import fcntl
import hashlib
import json
import os
import platform
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import time
import venv
from pathlib import Path
from typing import Any, NamedTuple

STORE = Path("/var/lib/edgeward")
INCOMING = STORE / "incoming"
RUNS = STORE / "containers"
"""How each container was started that did well, and the one before it: a JSON file of each service."""
RELEASES = Path("/opt/edgeward/releases")
CURRENT = RELEASES.parent / "current"
INPUT = 0
_KEPT_S = 30 * 86_400
"""What was sent and never used is removed after a month."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PREFIX = "opt/edgeward/"
CLUSTERS = ("k3s", "microk8s")
_PROGRAMS = ("systemctl", "podman", "docker", *CLUSTERS)


def read_exactly(count: int) -> bytes:
    """So many bytes; EOFError where the connection ended."""
    parts = []
    while count:
        part = os.read(INPUT, min(count, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def read_message() -> bytes:
    return read_exactly(int.from_bytes(read_exactly(8), "little"))


def say(document: "dict[str, Any]") -> None:
    data = json.dumps(document).encode()
    sys.stdout.buffer.write(len(data).to_bytes(8, "little") + data)
    sys.stdout.buffer.flush()


def hello(_: "dict[str, Any]") -> "dict[str, Any]":
    busy = lock()
    if busy:
        return busy
    machine = platform.machine()
    small = sys.maxsize < 2**32
    return {
        "python": list(sys.version_info[:2]),
        "arch": "armv7l" if small and machine in ("aarch64", "armv8l", "armv6l") else machine,
        "libc": list(platform.libc_ver()),
        "is_root": os.geteuid() == 0,
        "is_systemd": Path("/run/systemd/system").is_dir(),
        "programs": {name: version_of(name) for name in _PROGRAMS if shutil.which(name)},
        "cpus": os.cpu_count() or 1,
        "free_bytes": shutil.disk_usage(nearest(STORE)).free,
        "releases": sorted(path.name for path in RELEASES.glob("[!.]*")),
    }


def version_of(program: str) -> str:
    """The first line that it says of its version."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=False)
        return (done.stdout.splitlines() or [""])[0]
    return ""


def nearest(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def lock() -> "dict[str, Any] | None":
    """Until this process ends nobody else delivers here; what to answer where somebody does."""
    descriptor = os.open(incoming(), os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return {"error": "another deploy to it is under way; wait for it to end", "kind": "Unavailable"}
    return None


def incoming() -> Path:
    """The folder for what is sent, and nobody else's."""
    INCOMING.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = INCOMING.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise OSError(0, "is not root's own folder", str(INCOMING))
    INCOMING.chmod(0o700)
    return INCOMING


def there(request: "dict[str, Any]") -> "dict[str, Any]":
    """Of each digest, how many of its bytes are here."""
    folder = incoming()
    for path in folder.iterdir():
        if path.is_file() and time.time() - path.stat().st_mtime > _KEPT_S:  # noqa: TID251 - the file system's clock
            path.unlink()
    found = {}
    for digest in request["digests"]:
        path = folder / digest
        partial = path.with_suffix(".partial")
        if not path.exists():
            stored = next(STORE.glob("**/blobs/sha256/" + digest), None)
            if stored is not None and digest_of(stored) == digest:
                shutil.copyfile(stored, partial)
                finish(partial, path)
        found[digest] = path.stat().st_size if path.exists() else partial.stat().st_size if partial.exists() else 0
    return {"bytes": found}


def append(request: "dict[str, Any]") -> "dict[str, Any]":
    """The next part of a file; the last one is checked, and gives it its name."""
    data = read_message()
    path = incoming() / request["digest"]
    partial = path.with_suffix(".partial")
    with partial.open("r+b" if partial.exists() else "w+b") as file:
        file.truncate(request["offset"])
        file.seek(request["offset"])
        file.write(data)
    if request["is_last"]:
        if digest_of(partial) != request["digest"]:
            partial.unlink()
            return {"error": "a file arrived damaged", "kind": "Unavailable"}
        finish(partial, path)
    return {}


def finish(partial: Path, path: Path) -> None:
    sync(partial)
    partial.rename(path)
    sync(path.parent)


def digest_of(path: Path) -> str:
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            hasher.update(chunk)
    return hasher.hexdigest()


def lay(request: "dict[str, Any]") -> "dict[str, Any]":
    """A folder of files that were sent: paths in it, and their digests."""
    folder = incoming() / request["folder"]
    shutil.rmtree(folder, ignore_errors=True)
    for name, digest in request["files"].items():
        path = folder / name
        if ".." in path.parts:
            return {"error": name + ": leads out of the folder", "kind": "Refused"}
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(INCOMING / digest, path)
    return {"path": str(folder)}


def release(request: "dict[str, Any]") -> "dict[str, Any]":
    """Makes edgeward ready to run, in a virtual environment of its own, out of archives that were sent."""
    place = RELEASES / request["name"]
    if not place.is_dir():
        RELEASES.mkdir(parents=True, exist_ok=True)
        beside = RELEASES / ("." + request["name"] + ".partial")
        shutil.rmtree(beside, ignore_errors=True)
        if request["python"] is None:
            venv.EnvBuilder(symlinks=True, with_pip=False).create(beside)
        else:
            own_python(request["python"], beside, place)
        for digest in request["archives"]:
            unpack(INCOMING / digest, beside)
        for name, module in request["commands"].items():
            script = beside / "bin" / name
            script.write_text('#!/bin/sh\nexec "' + str(place) + '/bin/python" -m ' + module + ' "$@"\n')
            script.chmod(0o755)
        if request["python"] is None:
            lib = str(beside / "lib")
            compileall.compile_dir(lib, maxlevels=30, quiet=2, stripdir=str(beside), prependdir=str(place))
        os.sync()  # else a power cut may leave the folder with empty files in it
        beside.rename(place)
        sync(RELEASES)
    lead(CURRENT, Path("releases") / place.name)
    return {"python": str(place / "bin" / "python")}


def own_python(sent: "dict[str, str]", beside: Path, place: Path) -> None:
    """A Python that was sent, where the device's is too old; `place` is what `beside` will be called."""
    shutil.unpack_archive(str(INCOMING / sent["archive"]), str(beside / "python"), "gztar")
    (beside / "bin").mkdir()
    program = beside / "bin/python"
    first, rest = sent["program"].format(root=place / "python", program=place / "bin/python").split("\n", 1)
    program.write_text(first + "\nexport PYTHONPATH=" + str(place / sent["site"]) + "\n" + rest)
    program.chmod(0o755)


def unpack(archive: Path, place: Path) -> None:
    """The files below opt/edgeward in it, and nothing else."""
    with tarfile.open(archive) as opened:
        for member in opened:
            if member.isfile() and member.name.startswith(_PREFIX) and ".." not in Path(member.name).parts:
                path = place / member.name[len(_PREFIX) :]
                path.parent.mkdir(parents=True, exist_ok=True)
                with opened.extractfile(member) as source, path.open("wb") as file:  # type: ignore[union-attr]
                    shutil.copyfileobj(source, file)
                path.chmod(member.mode & 0o755)


def lead(link: Path, target: Path) -> None:
    """Lets a link lead elsewhere, in one step."""
    if link.is_symlink() and link.readlink() == target:
        return
    beside = link.with_name("." + link.name + ".partial")
    with contextlib.suppress(FileNotFoundError):
        beside.unlink()
    beside.symlink_to(target)
    beside.replace(link)
    sync(link.parent)


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def run(request: "dict[str, Any]") -> "dict[str, Any]":
    """One command to its end. It goes on where the connection ends: a half-way installation is nobody's wish."""
    child = subprocess.Popen(
        request["command"], cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    output, complaint = child.communicate()
    said = complaint.decode(errors="replace")[-8000:]
    return {"code": child.returncode, "output": output.decode(errors="replace"), "complaint": said}


def load(request: "dict[str, Any]") -> "dict[str, Any]":
    """An image that was laid as an OCI layout, for a container engine; it has the name `image` then."""
    engine, folder = request["engine"], INCOMING / request["folder"]
    if engine == "podman":
        done = call(engine, "pull", "--quiet", "oci:" + str(folder))
        named = done.output.split()[-1:]
    elif engine in CLUSTERS:
        return load_containerd(engine, folder, request["image"])
    else:
        tell_docker(folder, request["image"])
        done, named = load_archive(folder, engine, "load", "--quiet", "--input"), [request["image"]]
    if done.code or not named:
        return {"error": engine + " did not take the image: " + last(done.complaint), "kind": "Failed"}
    call(engine, "tag", named[0], request["image"])
    return {}


def tell_docker(folder: Path, image: str) -> None:
    """Adds what a Docker before 25, which knows no OCI layout, reads of an archive: the image's parts and its name."""
    document = json.loads((folder / "index.json").read_text())
    while "manifests" in document:
        document = json.loads((folder / place_of(document["manifests"][0])).read_text())
    layers = [place_of(one) for one in document["layers"]]
    told = {"Config": place_of(document["config"]), "RepoTags": [image], "Layers": layers}
    (folder / "manifest.json").write_text(json.dumps([told]))


def place_of(descriptor: "dict[str, Any]") -> str:
    return "blobs/" + str(descriptor["digest"]).replace(":", "/")


def load_archive(folder: Path, *command: str) -> "Done":
    """Gives the folder as a tar to a command, whose last word is its path."""
    archive = folder.with_suffix(".tar")
    with tarfile.open(archive, "w") as opened:
        opened.add(folder, ".")
    done = call(*command, str(archive))
    archive.unlink()
    return done


def load_containerd(engine: str, folder: Path, image: str) -> "dict[str, Any]":
    """The same for a cluster's containerd, which takes an image's name from the layout's index."""
    index = json.loads((folder / "index.json").read_text())
    index["manifests"][0].setdefault("annotations", {})["io.containerd.image.name"] = image
    (folder / "index.json").write_text(json.dumps(index))
    done = load_archive(folder, engine, "ctr", "images", "import")
    if done.code:
        return {"error": engine + " did not take the image: " + last(done.complaint), "kind": "Failed"}
    return {}


def roll_out(request: "dict[str, Any]") -> "dict[str, Any]":
    """A DaemonSet in the place of the one of the same name, which comes back where the new one does not do: when it is
    not ready within `limit_s` seconds, or `trial` in its pod fails. The trial's output and the address are told."""
    engine, name = request["engine"], request["name"]
    daemons = "daemonset/" + name
    had = call(engine, "kubectl", "get", daemons).code == 0
    node = platform.node().lower()  # as both name a node that was not named otherwise
    manifest = INCOMING / (name + ".yaml")
    manifest.write_text(request["manifest"])
    done = call(engine, "kubectl", "label", "node", node, request["label"] + "=true", "--overwrite")
    if done.code == 0:
        done = call(engine, "kubectl", "apply", "--filename", str(manifest))
    if done.code == 0:
        done = call(engine, "kubectl", "rollout", "status", daemons, "--timeout", str(request["limit_s"]) + "s")
    if done.code == 0:
        done = call(engine, "kubectl", "exec", daemons, "--", *request["trial"])
    if done.code == 0:
        path = "jsonpath={.spec.clusterIP}:{.spec.ports[0].port}"
        address = call(engine, "kubectl", "get", "service/" + name, "--output", path)
        manifest.unlink()
        return {"output": done.output, "address": address.output.strip()}
    said = call(engine, "kubectl", "logs", daemons, "--tail", "20")
    if had:
        call(engine, "kubectl", "rollout", "undo", daemons)
        call(engine, "kubectl", "rollout", "status", daemons, "--timeout", str(request["limit_s"]) + "s")
    else:
        call(engine, "kubectl", "delete", "--ignore-not-found", "--filename", str(manifest))
    manifest.unlink()
    return {"reason": last(said.output) or last(done.complaint), "is_back": had}


def replace(request: "dict[str, Any]") -> "dict[str, Any]":
    """A container in the place of the one of the same name, which comes back where the new one does not do.

    It does when `healthy` ends with 0 in it within `limit_s` seconds, and then `trial`, whose output is told. It is
    started with `options`, of the `image`, with `arguments`.
    """
    engine, name = request["engine"], request["name"]
    image = call(engine, "image", "inspect", "--format", "{{.Id}}", request["image"]).output.strip()
    if not image:
        return {"error": engine + " has no image " + request["image"], "kind": "Failed"}
    before = name + "-before"
    if exists(engine, before):  # a replacement was cut short: what it was to replace is the one that did
        call(engine, "rm", "--force", name)
        call(engine, "rename", before, name)
    had = exists(engine, name)
    if had:
        call(engine, "stop", name)
        call(engine, "rename", name, before)
    done = call(engine, "run", "--detach", "--name", name, *request["options"], image, *request["arguments"])
    if done.code == 0:
        done = wait(request)
    if done.code == 0:
        done = call(engine, "exec", name, *request["trial"])
    if done.code == 0:
        call(engine, "rm", "--force", before)
        remember(dict(request, image=image))
        return {"output": done.output}
    said = call(engine, "logs", "--tail", "20", name) if exists(engine, name) else done
    call(engine, "rm", "--force", name)
    if had:
        call(engine, "rename", before, name)
        call(engine, "start", name)
    return {"reason": last(said.complaint or said.output) or last(done.complaint), "is_back": had}


def remember(run: "dict[str, Any]") -> None:
    """Keeps how the container was started, and the one before it to go back to; of an older one not even the image."""
    path = RUNS / (run["service"] + ".json")
    known = json.loads(path.read_text()) if path.exists() else {"now": None, "before": None}
    is_same = known["now"] is not None and known["now"]["image"] == run["image"]
    told = {"now": run, "before": known["before"] if is_same else known["now"]}
    RUNS.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(told))
    finish(partial, path)
    kept = [one["image"] for one in told.values() if one is not None]
    for old in known.values():
        if old is not None and old["image"] not in kept:
            call(old["engine"], "rmi", old["image"])


def containers(request: "dict[str, Any]") -> "dict[str, Any]":  # noqa: ARG001 - as the other verbs
    """The services that run in containers, and how they are."""
    found = []
    for path in sorted(RUNS.glob("*.json")):
        run = json.loads(path.read_text())["now"]
        done = call(run["engine"], "container", "inspect", run["name"])
        missing: dict[str, Any] = {"State": {"Status": "missing", "StartedAt": ""}}
        seen = json.loads(done.output)[0] if done.code == 0 else missing
        state = seen["State"]["Status"]
        found.append({
            "name": run["service"], "version": run["version"], "digest": run["digest"],
            "unit": run["engine"] + " container " + run["name"], "state": "active" if state == "running" else state,
            "since": str(seen["State"]["StartedAt"])[:19], "says": "", "restarts": int(seen.get("RestartCount", 0)),
        })  # fmt: skip
    return {"services": found}


def go_back(request: "dict[str, Any]") -> "dict[str, Any]":
    """Starts the container before this one again, as it was started then; where it does not do, this one runs on."""
    path = RUNS / (request["service"] + ".json")
    before = json.loads(path.read_text())["before"]
    if before is None:
        return {
            "error": request["service"] + ": there is no bundle before this one to go back to",
            "kind": "WrongInput",
        }
    return dict(replace(before), digest=before["digest"], name=before["name"])


def wait(request: "dict[str, Any]") -> "Done":
    """Until the container is healthy, or has ended once, or the time is over."""
    engine, name = request["engine"], request["name"]
    end_s = time.monotonic() + request["limit_s"]
    while True:
        done = call(engine, "exec", name, *request["healthy"])
        state = call(engine, "inspect", "--format", "{{.State.Running}} {{.RestartCount}}", name)
        if done.code == 0 or state.output.strip() != "true 0" or time.monotonic() > end_s:
            return done
        time.sleep(0.5)


class Done(NamedTuple):
    """How a program ended."""

    code: int
    output: str
    complaint: str


def call(*command: str) -> Done:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    return Done(done.returncode, done.stdout, done.stderr)


def exists(engine: str, name: str) -> bool:
    return call(engine, "container", "inspect", name).code == 0


def last(text: str) -> str:
    """The line that says why: a program's last one, but Docker's before it points to its help."""
    lines = [line for line in text.strip().splitlines() if line.strip() and not line.startswith(("Run '", "See '"))]
    return (lines or [""])[-1].replace("edgeward: ", "")


def prune(request: "dict[str, Any]") -> "dict[str, Any]":  # noqa: ARG001 - as the other verbs
    """Removes the releases that no unit names and that is not the current one."""
    units = "".join(path.read_text() for path in Path("/etc/systemd/system").glob("edgeward-*.service"))
    for place in RELEASES.glob("[!.]*"):
        if str(place) + "/" not in units and CURRENT.resolve() != place:
            shutil.rmtree(place)
    return {}


def forget(request: "dict[str, Any]") -> "dict[str, Any]":
    """Removes folders that were laid, and files that are in use elsewhere by now."""
    for name in request["names"]:
        path = INCOMING / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
    return {}


VERBS: "dict[str, Any]" = {
    "hello": hello,
    "there": there,
    "append": append,
    "lay": lay,
    "release": release,
    "run": run,
    "load": load,
    "replace": replace,
    "roll_out": roll_out,
    "containers": containers,
    "go_back": go_back,
    "prune": prune,
    "forget": forget,
}


def answer(request: "dict[str, Any]") -> "dict[str, Any]":
    try:
        told: dict[str, Any] = VERBS[request["do"]](request)
    except OSError as error:
        where = str(error.filename or INCOMING)
        if error.errno == errno.ENOSPC:
            return {"error": where + ": no space left on the device", "kind": "Failed"}
        return {"error": where + ": " + str(error.strerror or error), "kind": "Unsupported"}
    return told


def main() -> None:
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    os.umask(0o022)
    os.environ.update(PATH=os.environ.get("PATH", "") + ":" + _PATH, HOME="/root", LANG="C.UTF-8")
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            said = answer(json.loads(read_message()))
            say(said)
            if "error" in said:
                return


if __name__ == "__main__":
    main()
