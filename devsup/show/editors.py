"""Links that open a file in the user's editor."""

from __future__ import annotations

import os
from urllib.parse import quote

_SCHEMES = {
    "vscode": "vscode://file{file}:{line}",
    "code": "vscode://file{file}:{line}",
    "code-insiders": "vscode-insiders://file{file}:{line}",
    "codium": "vscodium://file{file}:{line}",
    "cursor": "cursor://file{file}:{line}",
    "windsurf": "windsurf://file{file}:{line}",
    "zed": "zed://file{file}:{line}",
    "idea": "idea://open?file={file}&line={line}",
    "pycharm": "pycharm://open?file={file}&line={line}",
    "subl": "subl://open?url=file://{file}&line={line}",
    "emacs": "emacs://open?url=file://{file}&line={line}",
    "emacsclient": "emacs://open?url=file://{file}&line={line}",
    "mvim": "mvim://open?url=file://{file}&line={line}",
}
_DEFAULT = "vscode"


def template(setting: str | None, environ_editor: str) -> str:
    """The form of a link: a name or a form of the user's own, else what $EDITOR names, as far as it has links."""
    if setting and "{file}" in setting:
        return setting
    program = environ_editor.split(" ", maxsplit=1)[0].rpartition("/")[2]
    return _SCHEMES.get(setting or program, _SCHEMES[_DEFAULT])


def link(form: str, file: str, line: int) -> str:
    """The link to a line of a file."""
    return form.replace("{file}", quote(os.fsencode(file))).replace("{line}", str(line))
