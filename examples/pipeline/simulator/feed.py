"""The thread that measures a point a second, writes it to data/live.csv and posts it; and the faults it can be given."""

import json
import math
import os
import random
import socket
import threading
import time
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, TextIO

BACKEND = os.environ.get("BACKEND", "127.0.0.1:8000")
INTERVAL = float(os.environ.get("INTERVAL", "1"))
WINDOW = 5  # what the backend is to average over
POST_TIMEOUT = 60.0
CSV = Path(__file__).parent.parent / "data" / "live.csv"

FAULTS = ("thread", "post", "setting", "payload", "csv")


class Feed:
    def __init__(self) -> None:
        self.faults: set[str] = set()
        self._made = self._sent = 0
        self._last_answer = "none yet"
        self._switching = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread()
        self._socket: socket.socket | None = None

    def start(self) -> None:
        CSV.parent.mkdir(exist_ok=True)
        CSV.write_text("number,at,value\n")
        self._start_thread()

    def stop(self) -> None:
        """End the thread, also out of a post that blocks."""
        self._ended.set()
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def switch_on(self, fault: str) -> None:
        with self._switching:
            self.faults.add(fault)

    def switch_off(self, fault: str) -> None:
        with self._switching:
            self.faults.discard(fault)
            if fault in {"thread", "post"}:
                self.stop()
                self._start_thread()

    def status(self) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "points_made": self._made,
            "points_sent": self._sent,
            "last_answer": self._last_answer,
            "thread_alive": self._thread.is_alive(),
            "settings": {"window": WINDOW, "interval": INTERVAL},
            "faults": {fault: fault in self.faults for fault in FAULTS},
        }

    def _start_thread(self) -> None:
        self._ended.clear()
        self._thread = threading.Thread(target=self._run, name="simulator", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        # The buffer is so large that what is never flushed stays away from the file for hours.
        with CSV.open("a", buffering=1 << 20) as file:
            while not self._ended.wait(INTERVAL):
                self._measure(file)

    def _measure(self, file: TextIO) -> None:
        if "thread" in self.faults:
            raise RuntimeError("the sensor is gone")
        self._made += 1
        at, value = round(time.time(), 3), round(20 + 3 * math.sin(self._made / 6) + random.gauss(0, 0.7), 2)
        print(self._made, at, value, sep=",", file=file, flush="csv" not in self.faults)
        field = "vaule" if "payload" in self.faults else "value"
        self._send({"number": self._made, "at": at, field: value})

    def _send(self, point: dict[str, Any]) -> None:
        """Post a point, and the settings if the answer shows that the backend has others."""
        try:
            answer = self._post("/ingest", point)
            window = 1 if "setting" in self.faults else WINDOW
            if answer["window"] != window:
                self._post("/settings", {"window": window})
        except (OSError, HTTPException, ValueError, KeyError) as error:
            self._last_answer = f"none: {type(error).__name__}: {error}"
        else:
            self._last_answer = json.dumps(answer)
            self._sent += 1

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        with closing(HTTPConnection(BACKEND, timeout=POST_TIMEOUT)) as connection:
            connection.connect()
            self._socket = connection.sock
            # Looked at only now that stop() has a socket to shut down: it ends either this post or the choice to block.
            if "post" in self.faults and not self._ended.is_set():
                path = "/never"
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            if response.status != 200:
                raise HTTPException(f"{response.status} {response.reason}")
            return json.loads(response.read())
