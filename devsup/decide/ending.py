"""Whom devsup may end for the sake of a port."""

from __future__ import annotations

from typing import NamedTuple

_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "fish", "ksh", "tcsh", "csh", "nu"})
_WINDOWS = frozenset("code code-insiders cursor zed subl sublime_text idea pycharm firefox chrome chromium".split())
_NEVER = {
    "sshd": "it is how people log in",
    "login": "it is how people log in",
    "systemd": "it runs everything else",
    "launchd": "it runs everything else",
    "init": "it runs everything else",
    "dockerd": "it runs containers",
    "containerd": "it runs containers",
    "docker-proxy": "it is a container's port; end the container: docker ps, docker stop NAME",
    "rootlessport": "it is a container's port; end the container: podman ps, podman stop NAME",
    "ssh": "it is a tunnel of yours; end that ssh",
    "ControlCenter": "it is macOS's AirPlay Receiver; turn it off in System Settings, General, AirDrop & Handoff",
}


class Suspect(NamedTuple):
    """A process that somebody wants to end. `service` is the system's unit that it belongs to, if it is not our own."""

    pid: int
    name: str
    first_word: str
    user: str | None
    leads_terminal: bool
    is_ancestor: bool
    service: str


def refusal(suspect: Suspect, own_pid: int, own_user: str) -> str:
    """Why this process is not to be ended; empty where it may be."""
    if suspect.pid == 1:
        return "it is process 1, which everything else hangs on"
    if suspect.pid == own_pid:
        return "it is this very command"
    if suspect.is_ancestor:
        return "this command was started by it"
    if suspect.user != own_user:
        return f"it belongs to user {suspect.user}" if suspect.user else "it belongs to another user"
    if suspect.name in _NEVER:
        return _NEVER[suspect.name]
    if suspect.name in _WINDOWS:
        return "it is an editor or a browser, which may forward ports: close the port there"
    if suspect.first_word.startswith("-") or (suspect.leads_terminal and suspect.name in _SHELLS):
        return "it is a login shell"
    if suspect.service:
        return f"it is a service of this system: systemctl stop {suspect.service}"
    return ""
