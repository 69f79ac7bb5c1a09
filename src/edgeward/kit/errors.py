"""The one error family. An error is chosen by what the caller can do about it, and told once, by the CLI."""

import errno


class EdgewardError(Exception):
    """One clear sentence: what, where, wanted and got. `hint` is the next move, a command where there is one."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Failed(EdgewardError):
    """It could not be done, and nothing the user wrote is the cause."""


class WrongInput(EdgewardError):
    """Fix the input or the call."""

    exit_code = 2


class GateMissed(EdgewardError):
    """It ran, and missed a limit that the user set."""

    exit_code = 3


class Unsupported(EdgewardError):
    """Not here, or not this: choose another."""

    exit_code = 4


class Unavailable(EdgewardError):
    """Not reachable now: try later."""

    exit_code = 5


class Refused(EdgewardError):
    """A signature, an integrity check or a policy says no: stop."""

    exit_code = 6


def from_os_error(error: OSError) -> EdgewardError:
    """The sentence for an error of the operating system that no closer code answered."""
    place = error.filename if error.filename is not None else "the output"
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return Failed(f"{place}: no space left on the device", hint="free some space (df -h) and run it again")
        case errno.EACCES | errno.EPERM:
            return WrongInput(f"{place}: permission denied", hint=f"ls -ld {place}")
        case errno.EROFS:
            return WrongInput(f"{place}: the file system is read-only", hint="choose another place with -o")
        case errno.ENOENT:
            return WrongInput(f"{place}: no such file or folder")
        case errno.EISDIR:
            return WrongInput(f"{place}: is a folder, wanted a file")
        case errno.ENOTDIR:
            return WrongInput(f"{place}: a part of this path is a file, wanted a folder")
        case errno.EEXIST:
            return WrongInput(f"{place}: exists already, and stands in the way")
        case errno.EADDRINUSE:
            return Failed(f"{place}: the address is already in use", hint="choose another with --port")
        case errno.EMFILE | errno.ENFILE:
            return Failed("too many open files", hint="ulimit -n 4096")
        case _:
            return Failed(f"{place}: {error.strerror or error}")
