"""`devsup check` wherever CI runs it: as any user, in something like a container, many at once, and what CI reads of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import devsup
from devsup.cli.check import check as command
from devsup.config.values import BUILT_IN
from harness import Answer, tool

APP = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hi"})
"""
UNKNOWN = "54321"  # a user without a name, a home, or rights

# In a mount namespace of its own: what is needed stays visible though a home above it is closed to others; the project cannot be
# written, and there is no shared memory. Arguments: the project, the folders that are needed, "--", the command.
CONTAINER = """
set -e
project=$1; shift
mount -t tmpfs -o mode=755 tmpfs /mnt; kept=/mnt
number=0
: > "$kept/list"
while [ "$1" != -- ]; do
    mkdir "$kept/$number"; mount --bind "$1" "$kept/$number"; echo "$number $1" >> "$kept/list"
    number=$((number + 1)); shift
done
shift
mount -t tmpfs -o mode=1777 tmpfs /tmp
while read -r number path; do
    mkdir -p "$path"
    above=$path
    while [ "$above" != / ]; do
        above=$(dirname "$above")
        if [ "$above" != / ] && [ $(($(stat -c %a "$above") % 2)) = 0 ]; then mount -t tmpfs -o mode=755 tmpfs "$above"; fi
    done
    mkdir -p "$path"; mount --bind "$kept/$number" "$path"
done < "$kept/list"
mount -o remount,ro,bind "$project"
if [ -d /dev/shm ]; then mount -t tmpfs -o mode=000 tmpfs /dev/shm; fi
cd "$project"
exec setpriv --reuid=UNKNOWN --regid=UNKNOWN --clear-groups --no-new-privs --inh-caps=-all \\
    env -i PATH="$PATH" VIRTUAL_ENV="$VIRTUAL_ENV" "$@"
""".replace("UNKNOWN", UNKNOWN)


def test_as_any_user_in_something_like_a_container(project: Path, environment: dict[str, str]) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root makes namespaces for another user")
    (project / "main.py").write_text(
        "import os\n"
        f"assert os.getuid() == {UNKNOWN} and 'HOME' not in os.environ\n"
        "assert not os.access('.', os.W_OK) and not os.access('/dev/shm', os.W_OK)\n" + APP
    )
    project.chmod(0o755)
    needed = [str(project), *dict.fromkeys([sys.prefix, sys.base_prefix, str(Path(devsup.__file__).parent)])]
    words = [sys.executable, "-m", "devsup", "check", "--json", "--hold", "0.5", "main:app"]
    path = Path(devsup.__file__).parent.parent
    command = [tool("unshare"), "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", CONTAINER, "sh"]
    done = subprocess.run(
        [*command, str(project), *needed, "--", "env", f"PYTHONPATH={path}", *words],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    bad = [f"{each['text']} {each['lines']}" for each in report["rounds"][0]["outcomes"] if each["verdict"] == "failed"]
    assert not bad, "\n".join(bad)
    assert done.returncode == 0
    assert report["counts"] == {"passed": 11, "failed": 0, "slow": 0, "skipped": 0}
    assert not done.stderr


def test_many_at_once_of_one_project(project: Path, ask: Callable[..., Answer]) -> None:
    (project / "main.py").write_text(APP)
    with ThreadPoolExecutor(6) as pool:
        found = [each.result() for each in [pool.submit(ask, "check", "--json", "--hold", "1", "main:app") for _ in range(6)]]
    assert [each.code for each in found] == [0] * 6, found
    urls = {
        outcome["text"].split()[0]
        for each in found
        for outcome in each.json["rounds"][0]["outcomes"]
        if outcome["name"] == "ready"
    }
    assert len(urls) == 6
    assert not (project / ".devsup").exists()


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("import os\nimport nothing\n" + APP, 2, "Module nothing is not installed"),
        ("import os\ndef broken(:\n" + APP, 2, "does not compile"),
    ],
)
def test_what_github_shows(text: str, line: int, said: str, project: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """The annotation stands at the line of the file, from the repository's root; the job's summary has the same."""
    (project / "app").mkdir()
    (project / "app" / "main.py").write_text(text)
    github = {"GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": str(project), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")}
    command = [sys.executable, "-m", "devsup", "check", "--junit", "out/junit.xml", "main:app"]
    done = subprocess.run(
        command, cwd=project / "app", env={**environment, **github}, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 3, done.stdout + done.stderr
    told = [each for each in done.stdout.splitlines() if each.startswith("::error ")]
    assert len(told) == 1
    assert told[0].startswith(f"::error file=app/main.py,line={line},title=devsup check%3A start::")
    assert said in told[0]
    assert said in (tmp_path / "summary.md").read_text()
    suites = ET.parse(project / "app" / "out" / "junit.xml").getroot()
    failure = suites.find(".//testcase[@name='start']/failure")
    assert failure is not None
    assert said in failure.attrib["message"]


def test_what_passes_is_in_the_junit_file_too(project: Path, ask: Callable[..., Answer]) -> None:
    (project / "main.py").write_text(APP)
    assert ask("check", "--hold", "0", "--junit", "junit.xml", "main:app").code == 0
    suite = ET.parse(project / "junit.xml").getroot().find("testsuite")
    assert suite is not None
    assert [each.attrib["name"] for each in suite.findall("testcase")][:2] == ["start", "ready"]
    assert suite.attrib["failures"] == "0"


# The documentation


DOCS = (Path(__file__).resolve().parents[2] / "docs" / "check.md").read_text("utf-8")


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_check_is_documented(name: str) -> None:
    assert f"\n| `{name}` | " in DOCS


def test_every_option_is_documented() -> None:
    long = {option for each in command.params for option in each.opts if option.startswith("--")}
    assert {option for option in long if f"`{option}" not in DOCS} == set()


def test_every_exit_code_is_documented() -> None:
    assert [code for code in range(7) if f"\n| {code} | " not in DOCS] == []
