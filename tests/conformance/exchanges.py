"""The exchanges: HTTP and WebSockets, as allowed, as seldom seen, and as forbidden."""

from __future__ import annotations

import zlib

from conformance.wire import (
    BINARY,
    PING,
    PONG,
    TEXT,
    Exchange,
    HalfClose,
    Hold,
    Leave,
    Read,
    Reset,
    Step,
    Trickle,
    close,
    frame,
    handshake,
)

HEAD_END = Read(b"\r\n\r\n")


def request(
    path: str, *headers: str, method: str = "GET", version: str = "HTTP/1.1", body: bytes | None = None, last: bool = True
) -> bytes:
    """One request; the last of a connection asks for its end."""
    lines = [f"{method} {path} {version}", "Host: localhost", *headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    if last and version == "HTTP/1.1":
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def http(name: str, *steps: Step, seen: str = "", idle: bool = False, lazy: bool = False) -> Exchange:
    return Exchange(name, steps, seen, idle, lazy)


def chunk(data: bytes, extension: str = "") -> bytes:
    return f"{len(data):x}{extension}\r\n".encode() + data + b"\r\n"


CHUNKED = "Transfer-Encoding: chunked"
CONTINUE = Read(b"HTTP/1.1 100")
EXPECT = "Expect: 100-continue"
PIECES = [chunk(str(number).encode() * 500) for number in range(10)]
KEEP = "Connection: keep-alive"

ORDINARY = [
    *(http(f"{method} echo", request("/echo", method=method)) for method in ("GET", "DELETE", "OPTIONS", "BREW", "HEAD")),
    *(http(f"{method} echo", request("/echo", method=method, body=b"a=1&b=2")) for method in ("POST", "PUT", "PATCH")),
    http("headers' order", request("/echo", "X-B: 1", "x-a: 2", "X-B: 3", "Cookie: a=b", "Cookie: c=d", "X-Latin: \xe9")),
    http("query and escapes", request("/echo?a=%20+b&%C3%A9=1&c")),
    http("escaped path", request("/ech%6f")),
    http("double slash", request("//echo/../echo")),
    http("absolute form", request("http://localhost/echo?absolute")),
    http("OPTIONS *", request("*", method="OPTIONS")),
    http("whole scope", request("/whole_scope?q=1", "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: https", "User-Agent: us")),
    *(
        http(f"{method} {path}", request(path, method=method))
        for path in ("/stream", "/big", "/nope")
        for method in ("GET", "HEAD")
    ),
    *(http(f"status {status}", request(f"/nothing?{status}")) for status in (200, 204, 205, 304, 404, 500, 299, 599)),
    http("HEAD 204", request("/nothing?204", method="HEAD")),
    http("headers of the answer", request("/headers")),
    http("event stream", request("/lines", "Accept: text/event-stream")),
    http("early hint", request("/early_hint")),
    http("trailers", request("/trailers", "TE: trailers")),
    http("informational", request("/informational")),
    http("a signal for the app", request("/signalled")),
    http("the app's task factory", request("/factory")),
    http("context variables", request("/variable", last=False) + request("/variable")),
    http("big, read late", request("/big"), lazy=True),
    http("disconnect", request("/leaves", last=False), Read(b"begun"), Leave(), seen="leaves"),
    http("disconnect by reset", request("/leaves", last=False), Read(b"begun"), Reset(), seen="leaves"),
    http("after the end", request("/after_end"), seen="after_end"),
    http("after the end, kept alive", request("/after_end", last=False), Read(b"complete"), Leave(), seen="after_end"),
    http("upload and answer overlap", request("/one_message", method="POST", body=b"x" * 200_000), seen="one_message"),
    *(http(f"raises {kind}", request(f"/raises?{kind}")) for kind in ("", "mid", "started", "returns", "cancelled")),
    *(
        http(f"wrong {kind}", request(f"/wrong?{kind}"), seen=f"wrong-{kind}" if kind in seen else "")
        for seen in (("order", "twice", "unknown", "long"),)
        for kind in ("order", "twice", "unknown", "long", "short")
    ),
]

VERSIONS = [
    http("HTTP/1.0", request("/echo", version="HTTP/1.0")),
    http("HTTP/1.0 stream", request("/stream", version="HTTP/1.0")),
    http("HTTP/1.0 HEAD", request("/stream", method="HEAD", version="HTTP/1.0")),
    http(
        "HTTP/1.0 keep-alive",
        request("/echo", KEEP, version="HTTP/1.0"),
        HEAD_END,
        request("/echo", version="HTTP/1.0"),
        idle=True,
    ),
    http("HTTP/1.0 without a host", b"GET /echo HTTP/1.0\r\n\r\n"),
    http("HTTP/0.9", b"GET /echo\r\n\r\n"),
    http("HTTP/1.2", request("/echo", version="HTTP/1.2"), HalfClose()),
    http("HTTP/3.0", request("/echo", version="HTTP/3.0"), HalfClose()),
]

CONNECTIONS = [
    http("pipelined", request("/stream", last=False) + request("/echo?2", last=False) + request("/echo?3")),
    http(
        "pipelined POST and HEAD",
        request("/echo?1", method="POST", body=b"one", last=False)
        + request("/stream", method="HEAD", last=False)
        + request("/echo?3", method="POST", body=b"three"),
    ),
    http("pipelined after a close", request("/echo?1") + request("/echo?2")),
    http("pipelined behind a big answer", request("/big", last=False) + request("/echo?2"), lazy=True),
    http("pipelined byte by byte", Trickle(request("/echo?1", last=False) + request("/echo?2"), 7)),
    http("kept alive", request("/echo?1", KEEP, last=False), Read(b'"length"'), request("/echo?2"), idle=True),
    http(
        "Connection with several words",
        request("/echo", "Connection: Keep-Alive, x-hop", last=False),
        Read(b'"length"'),
        request("/"),
        idle=True,
    ),
    http("half-closed", request("/echo", last=False), HalfClose()),
    http("half-closed with a body", request("/echo", method="POST", body=b"whole", last=False), HalfClose()),
    http("half-closed in a body", request("/echo", "Content-Length: 10", method="POST", last=False) + b"half", HalfClose()),
    http("half-closed in a head", b"GET /echo HTTP/1.1\r\nHost: lo", HalfClose()),
    http("half-closed at once", HalfClose()),
    http("byte by byte", Trickle(request("/echo", "X-Slow: yes", method="POST", body=b"slowly"))),
    http("empty lines first", b"\r\n\r\n" + request("/echo")),
    http("Upgrade to something else", request("/echo", "Upgrade: teapot", "Connection: upgrade")),
]

UPLOADS = [
    http("Expect", request("/echo", EXPECT, "Content-Length: 4", method="POST"), CONTINUE, HEAD_END, b"body"),
    http("Expect, body sent at once", request("/echo", EXPECT, method="POST", body=b"at once")),
    http("Expect, body unread", request("/unread", EXPECT, "Content-Length: 4", method="POST")),
    http("Expect, chunked", request("/echo", EXPECT, CHUNKED, method="POST"), CONTINUE, HEAD_END, *PIECES, chunk(b"")),
    http("Expect something else", request("/echo", "Expect: tea", method="POST", body=b"tea")),
    http("chunked", request("/echo", CHUNKED, method="POST"), *PIECES, chunk(b"")),
    http("chunked byte by byte", request("/echo", CHUNKED, method="POST"), Trickle(b"".join(PIECES[:2]), 3), chunk(b"")),
    http(
        "chunked with extensions",
        # At once: werkzeug waits for the rest of what it refuses to read.
        request("/echo", CHUNKED, method="POST") + chunk(b"one", ";a=b") + chunk(b"two", ";c") + chunk(b""),
    ),
    http("chunked with trailers", request("/echo", CHUNKED, method="POST") + chunk(b"one") + b"0\r\nX-Sum: 1\r\n\r\n"),
    http("chunked, bad size", request("/echo", CHUNKED, method="POST") + b"zz\r\nabc\r\n"),
    http("chunked, cut", request("/echo", CHUNKED, method="POST"), PIECES[0], HalfClose()),
    http("chunked and a length", request("/echo", CHUNKED, method="POST", body=b"3\r\nabc\r\n0\r\n\r\n")),
    http("two lengths", request("/echo", "Content-Length: 3", method="POST", body=b"four")),
    http("a negative length", request("/echo", "Content-Length: -1", method="POST")),
    http("a length that is no number", request("/echo", "Content-Length: many", method="POST")),
    http("an empty body", request("/echo", method="POST", body=b"")),
    http("1 MB", request("/echo", method="POST", body=b"x" * 1_000_000)),
    http("unread body", request("/unread", method="POST", body=b"x" * 1000)),
]

INVALID = [
    http("garbage", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"),
    http("no method", b" /echo HTTP/1.1\r\nHost: a\r\n\r\n"),
    http("no host", b"GET /echo HTTP/1.1\r\nConnection: close\r\n\r\n"),
    http("two hosts", request("/echo", "Host: other")),
    http("a header without a name", request("/echo", ": value")),
    http("a header without a colon", request("/echo", "nonsense")),
    http("a space before the colon", request("/echo", "X-A : b")),
    http("a folded header", request("/echo", "X-A: b\r\n  c")),
    http("a NUL in a header", request("/echo", "X-A: b\0c")),
    http("bare line feeds", request("/echo").replace(b"\r\n", b"\n"), HalfClose()),
    http("a space in the path", request("/ec ho")),
    http("bytes in the path", request("/\xff\xfe")),
    http("a long path", request("/" + "a" * 30_000)),
    http("a header of 40 kB", request("/echo", "X-Long: " + "a" * 40_000)),
    http("a header of 1 MB", request("/echo", "X-Long: " + "a" * 1_000_000)),
    http("CONNECT", request("localhost:1", method="CONNECT")),
    http("a lower-case method", request("/echo", method="get")),
]

STARLETTE = [
    http("Starlette endpoint", request("/starlette/echo?a=1&a=2", "Cookie: k=v")),
    http("Starlette HEAD", request("/starlette/in_thread", method="HEAD")),
    http("Starlette 405", request("/starlette/counting", method="POST", body=b"")),
    http("Starlette upload", request("/starlette/echo", CHUNKED, method="POST"), *PIECES, chunk(b"")),
    http("Starlette stream", request("/starlette/counting")),
    http("Starlette background", request("/starlette/background"), seen="background"),
    http("Starlette thread", request("/starlette/in_thread")),
    http("Starlette file", request("/starlette/file")),
    http("Starlette range", request("/starlette/file", "Range: bytes=100-199")),
    http("Starlette gzip", request("/starlette/file", "Accept-Encoding: gzip")),
    http("Starlette redirect", request("/starlette/moved")),
    http("Starlette exception", request("/starlette/teapot")),
    http("Starlette error", request("/starlette/broken")),
    http("Starlette 404", request("/starlette/none")),
]


# -- WebSockets -------------------------------------------------------------------------------------------------------


def ws(name: str, path: str, *steps: Step, headers: tuple[str, ...] = (), seen: str = "") -> Exchange:
    return Exchange(f"WS {name}", (handshake(path, *headers), HEAD_END, *steps), seen, idle=True)


def deflated(text: bytes) -> bytes:
    squeeze = zlib.compressobj(wbits=-15)
    return (squeeze.compress(text) + squeeze.flush(zlib.Z_SYNC_FLUSH))[:-4]


DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate"
BYE = close(1000)
CODES = (1000, 1001, 1003, 1007, 1008, 1009, 1011, 1012, 3000, 4000, 4999)
LARGE = "0123456789" * 20_000

WEBSOCKETS = [
    ws("text", "/ws_echo?text", frame(TEXT, "hällo"), Read("hällo".encode()), BYE, seen="wstext"),
    ws("binary", "/ws_echo", frame(BINARY, b"\0\1\2\3"), Read(b"\0\1\2\3"), BYE),
    ws("several at once", "/ws_echo", frame(TEXT, "one") + frame(TEXT, "two") + frame(BINARY, b"three"), Read(b"three"), BYE),
    ws("empty messages", "/ws_echo", frame(TEXT) + frame(BINARY) + frame(TEXT, "end"), Read(b"end"), BYE),
    ws("large", "/ws_echo", frame(TEXT, LARGE + "end"), Read(b"end"), BYE),
    ws("byte by byte", "/ws_echo", Trickle(frame(TEXT, "slowly")), Read(b"slowly"), BYE),
    ws("burst", "/ws_echo", frame(TEXT, "many"), Read(b"many"), BYE),
    ws(
        "fragmented",
        "/ws_echo",
        frame(TEXT, "one", last=False) + frame(0, "two", last=False) + frame(PING, "in between") + frame(0, "three"),
        Read(b"onetwothree"),
        BYE,
    ),
    ws("ping", "/ws_echo", frame(PING, "are you there"), Read(b"are you there"), BYE),
    ws("pong unasked", "/ws_echo", frame(PONG, "here"), frame(TEXT, "on"), Read(b"on"), BYE),
    ws("deflate", "/ws_echo", frame(TEXT, deflated(b"squeezed" * 100), reserved=4), Read(b"\xc1"), BYE, headers=(DEFLATE,)),
    ws("deflate offered, not used", "/ws_echo", frame(TEXT, "plain" * 50), Read(b"\xc1"), BYE, headers=(DEFLATE,)),
    ws("subprotocols", "/ws_echo", BYE, headers=("Sec-WebSocket-Protocol: chat, superchat",)),
    *(ws(f"client closes {code}", f"/ws_echo?{code}", close(code, "why"), seen=f"ws{code}") for code in CODES),
    *(
        ws(f"app closes {code}", "/ws_echo", frame(TEXT, f"close:{code}:because"), Read(b"because"), close(code))
        for code in CODES
    ),
    ws("client closes without a code", "/ws_echo?none", close(None), seen="wsnone"),
    ws("client closes with code 1005", "/ws_echo", close(1005)),
    ws("client closes with code 99", "/ws_echo", close(99)),
    ws("client vanishes", "/ws_echo?gone", frame(TEXT, "one"), Read(b"one"), Leave(), seen="wsgone"),
    ws("client resets", "/ws_echo?reset", frame(TEXT, "one"), Read(b"one"), Reset(), seen="wsreset"),
    ws("client half-closes", "/ws_echo?half", frame(TEXT, "one"), Read(b"one"), HalfClose(), seen="wshalf"),
    ws("late sends", "/ws_late", close(4000), Leave(), seen="ws_late"),
    ws("app raises", "/ws_echo", frame(TEXT, "raise"), Read(b"\x88"), close(1011)),
    ws("app returns", "/ws_echo", frame(TEXT, "return"), Read(b"\x88"), close(1000)),
    ws(
        "scope",
        "/ws_scope?q=1",
        frame(TEXT, "first"),
        Read(b"\x88"),
        close(1000),
        headers=("X-B: 1", "x-a: 2", "Origin: http://a"),
    ),
    ws(
        "tasks",
        "/ws_tasks",
        frame(TEXT, "one") + frame(TEXT, "two"),
        Read(b"TWO"),
        frame(TEXT, "end"),
        Read(b"\x88"),
        close(4001),
    ),
    ws("rejected", "/ws_reject"),
    ws("denied", "/ws_denial"),
    ws("ends early", "/ws_ends?returns"),
    ws("raises early", "/ws_ends?raise"),
    ws("not there", "/none"),
    ws("bad text", "/ws_echo", frame(TEXT, b"\xff\xfe")),
    ws("unmasked", "/ws_echo", frame(TEXT, "open", masked=False)),
    ws("reserved bits", "/ws_echo", frame(TEXT, "odd", reserved=2)),
    ws("unknown opcode", "/ws_echo", frame(5, "odd")),
    ws("long ping", "/ws_echo", frame(PING, "x" * 126)),
    ws("continuation of nothing", "/ws_echo", frame(0, "what")),
    ws("Starlette endpoint", "/starlette/socket", frame(TEXT, '{"a": [1]}'), Read(b"got"), BYE),
    ws("Starlette greets", "/starlette/greet?name=you", Read(b"bye"), close(4242), headers=("Sec-WebSocket-Protocol: chat",)),
    http(
        "WS without a key",
        request("/ws_echo", "Upgrade: websocket", "Connection: upgrade", "Sec-WebSocket-Version: 13", last=False),
        HalfClose(),
    ),
    http("WS of another version", handshake("/ws_echo").replace(b"Version: 13", b"Version: 7"), HalfClose()),
    http("WS by POST", handshake("/ws_echo").replace(b"GET", b"POST"), HalfClose()),
]


# -- with a reload between two steps ----------------------------------------------------------------------------------

SLOW_HALF = request("/echo?hold", "Content-Length: 10", method="POST", last=False) + b"12345"

HELD = [
    http("held GET", request("/echo?hold"), Hold()),
    http("held HEAD", request("/stream?hold", method="HEAD"), Hold()),
    http("held HTTP/1.0", request("/stream?hold", version="HTTP/1.0"), Hold()),
    http("held stream", request("/stream?hold"), Hold()),
    http("held early hint", request("/early_hint?hold"), Hold()),
    http("held trailers", request("/trailers?hold", "TE: trailers"), Hold()),
    http("held error", request("/raises?hold"), Hold()),
    http("held half-closed", request("/stream?hold"), HalfClose(), Hold()),
    http("held, read late", request("/big?hold"), Hold(), lazy=True),
    http("held in a body", SLOW_HALF, Hold(), b"67890" + request("/echo?last")),
    http("held before the second of two", request("/echo?hold", last=False) + request("/echo?2"), Hold()),
    http("held between two", request("/echo?hold", last=False), Hold(request("/echo?2"))),
    http(
        "held after 100",
        request("/echo?hold", EXPECT, "Content-Length: 4", method="POST"),
        Hold(),
        CONTINUE,
        HEAD_END,
        b"body",
    ),
    http("held amid chunks", request("/echo?hold", CHUNKED, method="POST"), *PIECES[:5], Hold(), *PIECES[5:], chunk(b"")),
    http(
        "held Starlette upload",
        request("/starlette/echo?hold", CHUNKED, method="POST"),
        *PIECES[:5],
        Hold(),
        *PIECES[5:],
        chunk(b""),
    ),
    http("held disconnect", request("/leaves?hold", last=False), Hold(), Read(b"begun"), Leave(), seen="leaves"),
    ws("held", "/ws_echo", frame(TEXT, "hold"), Hold(), Read(b"hold"), Leave()),
    ws(
        "held fragment",
        "/ws_echo",
        frame(TEXT, "hold"),
        Hold(frame(TEXT, "one", last=False) + frame(0, "two")),
        Read(b"onetwo"),
        Leave(),
    ),
    http("WS held handshake", handshake("/ws_echo?hold"), Hold(), HEAD_END, Leave()),
]

HTTP = [*ORDINARY, *VERSIONS, *CONNECTIONS, *UPLOADS, *INVALID, *STARLETTE]


# -- WSGI -------------------------------------------------------------------------------------------------------------

FORM = ("Content-Type: application/x-www-form-urlencoded",)
WSGI = [
    *(http(f"{method} echo", request("/echo?a=%20b", method=method)) for method in ("GET", "DELETE", "OPTIONS", "BREW", "HEAD")),
    *(http(f"{method} echo", request("/echo", method=method, body=b"a=1")) for method in ("POST", "PUT", "PATCH")),
    http("environ", request("/environ?q=1", "X-B: 1", "x-a: 2", "X-B: 3", "User-Agent: us")),
    *(http(f"{method} {path}", request(path, method=method)) for path in ("/big", "/nope") for method in ("GET", "HEAD")),
    *(http(f"{method} pieces", request("/pieces", method=method), seen="closed") for method in ("GET", "HEAD")),
    *(http(path, request(path)) for path in ("/write", "/headers", "/file")),
    *(http(f"status {status}", request(f"/nothing?{status}")) for status in (200, 204, 304, 404, 599)),
    http("pieces that fail", request("/pieces?fails"), seen="closed"),
    *(http(f"raises {kind}", request(f"/raises?{kind}")) for kind in ("", "replaced", "started", "twice", "unstarted")),
    http("event stream", request("/events", "Accept: text/event-stream")),
    http("big, read late", request("/big"), lazy=True),
    http("client leaves", request("/big"), Read(b"\r\n\r\n"), Leave()),
    *VERSIONS,
    *CONNECTIONS,
    *UPLOADS,
    *INVALID,
    http("Flask form", request("/flask/echo?a=1", *FORM, method="POST", body=b"b=2&c=3"), seen="torn_down"),
    http("Flask HEAD", request("/flask/echo", method="HEAD")),
    http("Flask 405", request("/flask/echo", method="DELETE")),
    http("Flask OPTIONS", request("/flask/echo", method="OPTIONS")),
    http("Flask stream", request("/flask/stream"), seen="torn_down"),
    http("Flask session", request("/flask/session")),
    http("Flask redirect", request("/flask/moved")),
    http("Flask exception", request("/flask/teapot")),
    http("Flask error", request("/flask/broken")),
    http("Flask 404", request("/flask/none")),
    http("a WebSocket over WSGI", handshake("/echo"), HalfClose()),
]

WSGI_HELD = [
    http("held GET", request("/echo?hold"), Hold()),
    http("held HEAD", request("/big?hold", method="HEAD"), Hold()),
    http("held HTTP/1.0", request("/pieces?hold", version="HTTP/1.0"), Hold()),
    http("held error", request("/raises?hold"), Hold()),
    http("held, read late", request("/big?hold"), Hold(), lazy=True),
    http("held half-closed", request("/echo?hold"), HalfClose(), Hold()),
    http("held in a body", request("/echo?hold", "Content-Length: 10", method="POST") + b"12345", Hold(), b"67890"),
    http("held amid chunks", request("/echo?hold", CHUNKED, method="POST"), *PIECES[:5], Hold(), *PIECES[5:], chunk(b"")),
    http(
        "held after 100",
        request("/echo?hold", EXPECT, "Content-Length: 4", method="POST"),
        CONTINUE,
        HEAD_END,
        Hold(b"body"),
    ),
    http("held Flask stream", request("/flask/stream?hold"), Hold()),
]
