"""What is installed, and what of it does not fit: distributions as pip leaves them, in an environment of the test's own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from devsup.doctor import Finding
from devsup.doctor import packages as module
from devsup.doctor.packages import Installed, misfits, packages
from harness import find_python, make_environment, save

Examine = Callable[..., list[Finding]]
Look = Callable[..., list[Finding]]

MARKERS = {"python_version": "3.11", "python_full_version": "3.11.7", "sys_platform": "linux", "platform_system": "Linux"}


@pytest.fixture(scope="module")
def environment_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment in which nothing is installed."""
    return make_environment(tmp_path_factory.mktemp("packages") / "env", sys.executable, ())


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path, for distributions."""
    folder = tmp_path / "library"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


@pytest.fixture
def look(examine: Examine, environment_folder: Path, library: Path) -> Look:
    """What the check finds with that environment."""
    return lambda: examine(packages, python=str(environment_folder))


def install(library: Path, name: str, version: str, *requires: str) -> Path:
    folder = library / f"{name}-{version}.dist-info"
    folder.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {each}" for each in requires)]
    (folder / "METADATA").write_text("\n".join([*lines, "", "Requires-Dist: only-in-the-description"]))
    return folder


def test_packages_that_fit(look: Look, library: Path, environment_folder: Path) -> None:
    install(library, "Web_Kit", "1.5", "tool.box>=2 ; python_version >= '3'", "absent ; sys_platform == 'plan9'")
    install(library, "tool-box", "2.1")
    [found] = look()
    assert found == Finding("packages", "ok", f"2 packages in {environment_folder} fit each other.")


def test_what_is_missing_is_a_warning_with_the_command_that_installs_it(
    look: Look, library: Path, environment_folder: Path
) -> None:
    install(library, "webkit", "1.5", "toolbox[fast]<3,>=2")
    [found] = look()
    assert (found.verdict, found.text) == ("warn", "webkit 1.5 needs toolbox[fast]<3,>=2, which is not installed.")
    assert found.remedy == f"{environment_folder}/bin/python -m pip install 'toolbox[fast]<3,>=2'"


def test_a_version_that_does_not_fit_is_a_warning(look: Look, library: Path) -> None:
    install(library, "webkit", "1.5", "toolbox<3")
    install(library, "toolbox", "3.0")
    [found] = look()
    assert (found.verdict, found.text) == ("warn", "webkit 1.5 needs toolbox<3, and 3.0 is installed.")
    assert found.remedy.endswith("-m pip install 'toolbox<3'")


def test_what_is_there_twice_is_a_warning_and_the_remedy_names_both(look: Look, library: Path) -> None:
    one, two = install(library, "tool-box", "2.0"), install(library, "tool_box", "2.1")
    [found] = look()
    assert found.verdict == "warn"
    assert f"tool-box is installed twice in {library}: 2." in found.text
    remove = found.remedy.partition(": ")[2].partition(" && ")[0]
    assert {str(one), str(two)} == set(remove.split()[2:])
    subprocess.run(remove, shell=True, check=True, timeout=20)
    assert [each.verdict for each in look()] == ["ok"]


def test_an_egg_info_beside_it_is_debians_way(look: Look, library: Path) -> None:
    install(library, "toolbox", "2.0")
    (library / "toolbox.egg-info").mkdir()
    (library / "toolbox.egg-info" / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: toolbox\nVersion: 2.0\n")
    assert [each.verdict for each in look()] == ["ok"]


def test_the_same_package_in_two_folders_is_an_ordinary_thing(
    look: Look, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    monkeypatch.setenv("PYTHONPATH", f"{library}:{tmp_path / 'other'}")
    install(library, "toolbox", "2.0")
    install(tmp_path / "other", "toolbox", "1.0")
    assert [each.verdict for each in look()] == ["ok"]


@pytest.mark.parametrize("file", ["pyproject.toml", "requirements.txt"])
def test_what_the_project_itself_needs(look: Look, library: Path, folder: Path, file: str) -> None:
    texts = {
        "pyproject.toml": '[project]\nname = "x"\ndependencies = ["toolbox>=2", "absent; python_version < \'3\'"]\n',
        "requirements.txt": "# ours\n-r other.txt\n--index-url https://x\n\ntoolbox>=2 --hash=sha256:abc \\\n  --hash=sha256:x\n",
    }
    save(folder / file, texts[file])
    install(library, "toolbox", "1.9")
    [found] = look()
    assert (found.verdict, found.text) == ("warn", f"{file} needs toolbox>=2, and 1.9 is installed.")
    install(library, "other", "1")
    (library / "toolbox-1.9.dist-info").rename(library / "toolbox-2.0.dist-info")
    metadata = library / "toolbox-2.0.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("1.9", "2.0"))
    [found] = look()
    assert (found.verdict, found.text.endswith("fit each other and the project.")) == ("ok", True), found


@pytest.mark.parametrize("text", ["[project\n", "project = 1\n", "[project]\ndependencies = 3\n"])
def test_a_pyproject_that_cannot_be_understood_says_nothing(look: Look, folder: Path, text: str) -> None:
    save(folder / "pyproject.toml", text)
    assert [each.verdict for each in look()] == ["ok"]


def test_what_an_interrupted_installation_has_left_is_passed_over(look: Look, library: Path) -> None:
    (library / "~oolbox-1.0.dist-info").mkdir()
    (library / "broken-1.0.dist-info").mkdir()
    (library / "broken-1.0.dist-info" / "METADATA").write_bytes(b"\xff\xfe")
    install(library, "odd", "not a version", "odd>=1", "???")
    assert [each.verdict for each in look()] == ["ok"]


def test_no_module_of_the_project_is_run(look: Look, folder: Path) -> None:
    for name in ("json", "platform", "os", "email"):
        save(folder / f"{name}.py", f"open('ran-{name}', 'w')\n")
    assert [each.verdict for each in look()] == ["ok"]
    assert not list(folder.glob("ran-*"))


def test_a_python_that_does_not_tell_is_a_warning(look: Look, library: Path) -> None:
    save(library / "sitecustomize.py", "import os\nos.write(2, b'stopped here\\n')\nos._exit(3)\n")
    [found] = look()
    assert (found.verdict, found.text.endswith("does not tell what is installed: stopped here.")) == ("warn", True), found


def test_one_that_takes_too_long_is_a_warning(look: Look, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SECONDS", 0.3)
    save(library / "sitecustomize.py", "import threading\nthreading.Event().wait()\n")
    assert [each.verdict for each in look()] == ["warn"]


def test_the_oldest_python_tells_it_too(examine: Examine, folder: Path) -> None:
    [found] = examine(packages, python=find_python("3.9"))
    assert "fit each other" in found.text or "needs" in found.text, found


# The rule


def requirements(*installed: Installed, wanted: tuple[tuple[str, str], ...] = ()) -> list[str]:
    return [each.text for each in misfits(installed, MARKERS, wanted)]


def test_an_extra_that_somebody_asks_for_counts() -> None:
    box = Installed("box", "1", ('speed>=1; extra == "fast"', 'other; extra == "slow"'))
    assert requirements(box) == []
    assert requirements(box, Installed("web", "2", ("box[fast]",))) == ["box[fast] needs speed>=1, which is not installed."]


def test_extras_that_ask_for_each_other_end() -> None:
    box = Installed("box", "1", ('box[b]; extra == "a"', 'box[a]; extra == "b"', 'speed; extra == "b"'))
    assert requirements(box, wanted=(("requirements.txt", "box[a]"),)) == ["box[b] needs speed, which is not installed."]


def test_a_preview_fits_and_an_address_is_not_compared() -> None:
    box = Installed("box", "2.0b1", ())
    assert requirements(box, Installed("web", "1", ("box>=1", "box @ https://example.org/box.zip"))) == []
    assert requirements(box, Installed("web", "1", ("box>=2.0",))) == ["web 1 needs box>=2.0, and 2.0b1 is installed."]


def test_the_first_on_the_path_counts() -> None:
    web = Installed("web", "1", ("box>=2",))
    assert requirements(Installed("box", "2", (), "/a"), Installed("Box", "1", (), "/b"), web) == []
