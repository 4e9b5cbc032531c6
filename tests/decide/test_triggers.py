from __future__ import annotations

import pytest
from msgspec.structs import replace

from devsup.decide.triggers import Loaded, Rules, Verdict, adopted, fixed, judge

ROOT = "/p"
LOADED = Loaded(
    files=frozenset({"/p/main.py", "/p/pkg/__init__.py", "/p/pkg/a.py", "/elsewhere/lib.py", "/p/native.so", "/p/_version.py"}),
    packages=frozenset({"/p/pkg"}),
    running=True,
)


@pytest.mark.parametrize(
    ("path", "verdict"),
    [
        ("/p/main.py", "reload"),
        ("/elsewhere/lib.py", "reload"),
        ("/p/native.so", "reload"),
        ("/p/_version.py", "reload"),
        ("/p/pkg/new.py", "reload"),
        ("/p/beside.py", "name"),
        ("/p/scripts/tool.py", "name"),
        ("/p/pkg/sub/deep.py", "name"),
        ("/p/data.json", "ignore"),
        ("/p/.env", "reload"),
        ("/p/.devsup/events.jsonl", "ignore"),
        ("/p/__pycache__/main.cpython-311.pyc", "ignore"),
        ("/p/.git/hooks/x.py", "ignore"),
        ("/p/main.py~", "ignore"),
        ("/p/.#main.py", "ignore"),
        ("/p/4913", "ignore"),
    ],
)
def test_by_default_what_was_imported_reloads(path: str, verdict: Verdict) -> None:
    assert judge(path, Rules(ROOT, exact=frozenset({"/p/.env"})), LOADED) == verdict


@pytest.mark.parametrize(
    ("path", "rules", "verdict"),
    [
        ("/p/templates/x.html", Rules(ROOT, watch=("templates/**",)), "reload"),
        ("/p/templates/deep/x.html", Rules(ROOT, watch=("templates/**/*.html",)), "reload"),
        ("/p/templates/x.html", Rules(ROOT, watch=("templates/**/*.html",)), "reload"),
        ("/p/x.html", Rules(ROOT, watch=("*.html",)), "reload"),
        ("/p/deep/x.html", Rules(ROOT, watch=("*.html",)), "reload"),
        ("/p/templates/x.html", Rules(ROOT, watch=("templates",)), "reload"),
        ("/p/a.toml", Rules(ROOT, watch=("./a.toml",)), "reload"),
        ("/p/main.py", Rules(ROOT, ignore=("main.py",)), "ignore"),
        ("/p/pkg/a.py", Rules(ROOT, ignore=("pkg/*",)), "ignore"),
        ("/p/pkg/a.py", Rules(ROOT, ignore=("pkg",)), "ignore"),
        ("/p/pkg/a.py", Rules(ROOT, ignore=("/p/pkg",)), "ignore"),
        ("/p/x.html", Rules(ROOT, watch=("*.html",), ignore=("x.*",)), "ignore"),
        ("/p/beside.py", Rules(ROOT, watch_mode="all"), "reload"),
        ("/p/data.json", Rules(ROOT, watch_mode="all"), "ignore"),
        ("/p/main.py", Rules(ROOT, only=("/p/pkg",)), "ignore"),
        ("/p/pkg/a.py", Rules(ROOT, only=("/p/pkg",)), "reload"),
    ],
)
def test_rules_of_the_user(path: str, rules: Rules, verdict: Verdict) -> None:
    assert judge(path, rules, LOADED) == verdict


def test_while_no_worker_runs_any_python_file_may_be_the_one_that_mends_it() -> None:
    assert judge("/p/beside.py", Rules(ROOT), Loaded()) == "reload"
    assert judge("/p/data.json", Rules(ROOT), Loaded()) == "ignore"
    assert judge("/p/beside.py", Rules(ROOT, ignore=("beside.py",)), Loaded()) == "ignore"
    assert judge("/p/_version.py", Rules(ROOT), replace(LOADED, running=False), lambda _: True) == "reload"


@pytest.mark.parametrize(
    ("path", "rules", "verdict"),
    [
        ("/p/_version.py", Rules(ROOT), "reload"),
        ("/p/beside.py", Rules(ROOT), "ignore"),
        ("/p/pkg/new.py", Rules(ROOT), "ignore"),
        ("/p/beside.py", Rules(ROOT, watch_mode="all"), "ignore"),
        ("/p/x.json", Rules(ROOT, watch=("*.json",)), "reload"),
        ("/p/.env", Rules(ROOT, exact=frozenset({"/p/.env"})), "reload"),
    ],
)
def test_imported_and_explicit_beat_gitignore(path: str, rules: Rules, verdict: Verdict) -> None:
    assert judge(path, rules, LOADED, lambda _: True) == verdict
    assert judge("/p/beside.py", rules, Loaded(), lambda _: True) == "ignore"


@pytest.mark.parametrize(
    ("glob", "path"),
    [
        ("templates/**/*.html", "/p/templates"),
        ("./conf/a.toml", "/p/conf/a.toml"),
        ("/other/x/*.py", "/other/x"),
        ("../beside/*", "/beside"),
        ("*.html", ""),
        ("**/x", ""),
    ],
)
def test_where_a_globs_files_are(glob: str, path: str) -> None:
    assert fixed(glob, ROOT) == path


def test_the_rules_of_the_apps_own_reloader() -> None:
    own = Rules(ROOT, watch=("a",), ignore=("b",))
    assert adopted(own, (), (), ()) == own
    assert adopted(own, ("/p/src", "/p"), (), ()) == own
    rules = adopted(own, ("/p/src",), ("*.html", "/p/conf/", "*.py"), (".*", "lib"))
    assert rules == Rules(ROOT, watch=("a", "/p/src/**/*.html", "/p/conf/**/*.py"), ignore=("b", "lib"), only=("/p/src",))
    assert not adopted(own, (), (), ("*.py",)).python
