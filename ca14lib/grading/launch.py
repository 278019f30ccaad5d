"""What root does before it gives up its rights: mounts for one sandbox, then the user nobody, then bubblewrap.

Inside a user namespace root is still root to the kernel: limits on processes do not hold, and files of mode 0600 can be
read. So a grader that was started by root starts its sandboxes through this script, which makes what they need
reachable (an interpreter under root's home is not, for others) in a mount namespace of its own.
"""

import ctypes
import json
import os
import sys

NEW_MOUNTS = 0x00020000
BIND, RECURSIVE, PRIVATE, NO_SUID, NO_DEVICES = 4096, 16384, 1 << 18, 2, 4
NOBODY = 65534


def _mount(libc: ctypes.CDLL, source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    if libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode()):
        error = ctypes.get_errno()
        raise OSError(error, f"root may not mount {source} on {target}: {os.strerror(error)}")


def main() -> None:
    """Reads ``{"binds": [[source, target], …], "scratch": [target, options], "command": […]}`` from its argument."""
    task = json.loads(sys.argv[1])
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEW_MOUNTS):
        error = ctypes.get_errno()
        raise OSError(error, f"root may not have mounts of its own here: {os.strerror(error)}")
    _mount(libc, "none", "/", "", RECURSIVE | PRIVATE)
    for source, target in task["binds"]:
        _mount(libc, source, target, "", BIND)
    _mount(libc, "tmpfs", task["scratch"][0], "tmpfs", NO_SUID | NO_DEVICES, task["scratch"][1])
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    os.chdir("/")
    os.execv(task["command"][0], task["command"])


if __name__ == "__main__":
    main()
