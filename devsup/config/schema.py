"""The JSON Schema of devsup.toml: the types of `values`, and what each key means."""

from __future__ import annotations

from typing import Any

import msgspec

from devsup.config.values import CHECKS, KINDS, Check, Log, Probe, Service

_DIALECT = "http://json-schema.org/draft-07/schema#"  # the one that Taplo knows

_SERVICE = {
    "command": "What to run: a string, split as a shell would split it but with no shell behind it, or a list of words.",
    "target": 'Instead of a command: the app, as "module:app", of which devsup starts the usual server.',
    "cwd": "Where the command runs.",
    "python": "The Python to run it with: a path, the folder of a virtual environment, or a name on PATH.",
    "port": "Where it serves, if the command does not say so.",
    "watch": "Globs of files that trigger a reload, beside what the program has loaded.",
    "ignore": "Globs of files that never trigger a reload.",
    "watch_mode": "Python files that trigger: those that the program has loaded, or all below cwd.",
    "reload": "drain: wait for active work; handover: start the new code beside the old; restart: at once; off: never.",
    "drain_timeout": "Wait at most this long for active work.",
    "gate_timeout": "Keep new connections waiting at most this long at a time.",
    "stop_timeout": "From the request to stop until the kill; 0 kills at once.",
    "stop_signal": "The request to stop.",
    "start_timeout": "It failed to start if it is not ready after this long.",
    "stream_grace": "How long an endless stream may go on once a reload has begun.",
    "background_grace": "Wait for what a request leaves behind this long after its answer.",
    "probe": "How a server in other than Python is asked how many requests are active.",
    "hold": "Answer 503 when a start takes longer than this; until then clients wait.",
    "loop_block_warn": "Name what blocks an event loop for longer than this; 0: never.",
    "editor": "What the error page's links open: a name, or a form with {file} and {line}.",
    "env": "Variables to set.",
    "env_files": "Files of variables, read again at each start.",
    "streams": "Routes that devsup need not learn about: work is waited for, endless is cut.",
    "depends_on": "Services to wait for before this one starts: until each has started, is ready, or has ended well.",
    "restart": "What to do when it ends: again after a failure, always, or never.",
    "probes": 'Whether it works. The one called "ready" says when the service is ready; all others are asked while it runs.',
    "checks": "What `devsup check` demands of it, beside what it demands of every service.",
    "log": "Its log file below .devsup/logs.",
    "fork": "Fork workers from a process that has imported their packages (Linux).",
    "exit_on_failure": "Exit with 1 when it fails, instead of waiting for a save.",
}
_PROBE = {
    "http": "Ask this path of the service, or this URL: it answers 200 to 399.",
    "tcp": "Connect to this address.",
    "command": "Run this: it ends with 0.",
    "sse": "Read events, or pieces of any other stream, from this path or URL.",
    "path": "A file that is there, relative to cwd.",
    "log": "A regular expression: it is printed.",
    "never": "Regular expressions: none of them is printed.",
    "status": "http: the only status that will do.",
    "field": "http: the answer is JSON and has this field, such as queue.size.",
    "equals": "http with field: its value.",
    "grows_within": "http with field, path: it grows at least once in this time.",
    "events": 'sse: so many in the time of "within".',
    "within": "sse, log: at least so often.",
    "every": "The time from one question to the next.",
    "timeout": "An answer that takes longer is none.",
    "on_stall": "What to do when the service runs and does not work.",
}
_CHECK = {
    "http": "Send a request to this path of the service, or this URL; without a status it answers 200 to 399.",
    "ws": "Open a WebSocket at this path or URL.",
    "sse": "Read events, or pieces of any other stream, from this path or URL.",
    "command": "Run this, with the service's address as DEVSUP_URL: it ends with 0.",
    "log": "A regular expression: it is printed.",
    "never": "Regular expressions: none of them is printed, from the start to the end.",
    "ready_within": "It is ready so soon after its start.",
    "max_memory": "All its processes together never hold more.",
    "method": "http: of the request.",
    "headers": "http, ws: of the request.",
    "body": "http: of the request, as text.",
    "json": "http: of the request, as JSON.",
    "status": "http: the only status that will do.",
    "fields": "http: the answer is JSON and has these fields, such as items.0.id, with these values.",
    "has_headers": "http: the answer has these headers, each with a match of its regular expression.",
    "pattern": "http: the body has a match of this regular expression.",
    "redirect": "http: the answer is a redirect to this path or URL.",
    "send": "ws: these messages are sent, in this order.",
    "receive": "ws: regular expressions: messages with matches come back, in this order.",
    "events": "sse: so many in the time of timeout.",
    "timeout": "It is done within this time; each request of a scenario by itself.",
    "runs": "http: send it so many times, one after the other, and measure: a latency scenario. 0: once, unmeasured.",
    "warm_up": "http with runs: send it so many times before.",
    "mean": "http with runs: a run takes no longer than this on average.",
    "median": "http with runs: half of the runs take no longer than this.",
    "p95": "http with runs: 95 of 100 runs take no longer than this.",
    "max": "http with runs: no run takes longer than this.",
    "error_rate": "http with runs: so many of them may be answered wrongly, as a share: 0.001 is one of 1,000.",
}
_LOG = {
    "max_size": "Begin another file at this size; 0: never.",
    "max_age": "Delete files that are older; 0: never.",
    "keep": "How many old files are kept.",
}


def schema() -> dict[str, Any]:
    """The schema of a whole devsup.toml."""
    _, definitions = msgspec.json.schema_components([Service, Probe, Check, Log], ref_template="#/definitions/{name}")
    for kind, meanings in ((Service, _SERVICE), (Probe, _PROBE), (Check, _CHECK), (Log, _LOG)):
        keys = definitions[kind.__name__]["properties"]
        definitions[kind.__name__]["properties"] = {key: _key(keys[key], meanings[key]) for key in keys}
    for name, kinds in (("Probe", KINDS), ("Check", CHECKS)):
        definitions[name]["oneOf"] = [{"required": [kind]} for kind in kinds]
    return {
        "$schema": _DIALECT,
        "title": "devsup.toml",
        "type": "object",
        "properties": {
            "services": {
                "description": "The services, by names of your own.",
                "type": "object",
                "additionalProperties": {"$ref": "#/definitions/Service"},
            }
        },
        "additionalProperties": False,
        "definitions": definitions,
    }


def _key(schema: dict[str, Any], meaning: str) -> dict[str, Any]:
    """One key's schema, what it means first."""
    found = _plain(schema)
    if "$ref" in found:  # nothing counts beside it
        found["allOf"] = [{"$ref": found.pop("$ref")}]
    if found.get("default") == () and "minItems" in str(found):  # not what may be written
        del found["default"]
    return {"description": meaning, **found}


def _plain(schema: Any) -> Any:
    """The schema as editors need it: also what may be written instead of a type, no null, which TOML does not have."""
    if isinstance(schema, list):
        return [_plain(each) for each in schema if each != {"type": "null"}]
    if not isinstance(schema, dict):
        return schema.replace(r"\Z", "$") if isinstance(schema, str) else schema
    # The descriptions of types are for messages.
    found = {key: _plain(value) for key, value in schema.items() if key != "description"}
    if found.get("default", "") is None:
        del found["default"]
    also, default = found.pop("also", None), {key: found.pop(key) for key in ("default",) if key in found}
    if len(found.get("anyOf", ())) == 1:
        found = found["anyOf"][0]
    return {"anyOf": [also, found], **default} if also else {**found, **default}
