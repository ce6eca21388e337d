"""A real Chromium without a window, over its DevTools pipe: nothing to install beside it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--mute-audio",
    "--no-first-run",
    "--autoplay-policy=no-user-gesture-required",
    "--remote-debugging-pipe",
)
_PATIENCE_S = 60.0


class Browser:
    """One tab.

    Attributes:
        problems: errors of the console, exceptions, and everything that was fetched from a
            network, in words.
    """

    def __init__(self, pipe_in: int, pipe_out: int) -> None:
        self._to, self._from = pipe_in, pipe_out
        self._rest, self._number, self._session = b"", 0, ""
        self.problems: list[str] = []
        self._events: list[str] = []
        target = self._ask("Target.createTarget", {"url": "about:blank"})["targetId"]
        attached = self._ask("Target.attachToTarget", {"targetId": target, "flatten": True})
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._ask(f"{domain}.enable")

    def view(self, width: int, height: int, *, dark: bool = False) -> None:
        """The size of the screen, and what its user prefers."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._ask("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._ask("Emulation.setEmulatedMedia", {"features": [scheme]})

    def open(self, page: Path) -> None:
        """Open a file and wait until it is whole."""
        self._events.clear()
        self._ask("Page.navigate", {"url": page.resolve().as_uri()})
        end_s = time.monotonic() + _PATIENCE_S
        while "Page.loadEventFired" not in self._events and time.monotonic() < end_s:
            self._read(0.2)

    def evaluate(self, script: str) -> Any:
        """Value of an expression; a promise is waited for."""
        asked = {
            "expression": script,
            "returnByValue": True,
            "awaitPromise": True,
            "userGesture": True,
        }
        found = self._ask("Runtime.evaluate", asked)
        if "exceptionDetails" in found:
            raise AssertionError(json.dumps(found["exceptionDetails"])[:2000])
        return found["result"].get("value")

    def press(self, key: str, code: int, text: str = "") -> None:
        """A key of the keyboard, down and up."""
        stroke = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
        self._ask("Input.dispatchKeyEvent", {**stroke, **down})
        self._ask("Input.dispatchKeyEvent", {**stroke, "type": "keyUp"})

    def screenshot(self, out: Path, *, whole: bool = True) -> None:
        """The page as PNG."""
        found = self._ask("Page.captureScreenshot", {"captureBeyondViewport": whole})
        out.write_bytes(base64.b64decode(found["data"]))

    def _ask(self, method: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params or {}}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        end_s = time.monotonic() + _PATIENCE_S
        while time.monotonic() < end_s:
            for answer in self._read(0.5):
                if answer.get("id") == self._number:
                    if "error" in answer:
                        refused = f"{method}: {answer['error']}"
                        raise AssertionError(refused)
                    return dict(answer["result"])
        message_text = f"Chromium does not answer {method}"
        raise AssertionError(message_text)

    def _read(self, wait_s: float) -> list[dict[str, Any]]:
        if not select.select([self._from], [], [], wait_s)[0]:
            return []
        self._rest += os.read(self._from, 1 << 20)
        *whole, self._rest = self._rest.split(b"\0")
        found = [json.loads(part) for part in whole]
        for one in found:
            self._note(one)
        return found

    def _note(self, told: Mapping[str, Any]) -> None:
        method, params = told.get("method", ""), told.get("params", {})
        self._events.append(method)
        if method == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(params["exceptionDetails"])[:500])
        elif method == "Log.entryAdded" and params["entry"]["level"] in {"error", "warning"}:
            self.problems.append(params["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in {"error", "warning"}:
            self.problems.append(json.dumps(params["args"])[:500])
        elif method == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if not url.startswith(("file:", "data:", "about:")):
                self.problems.append(f"fetched {url[:200]}")


@contextlib.contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """A browser for some tests; they are skipped, saying so, where there is none."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser to test with: none of {', '.join(NAMES)} is installed")
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()
    # Chromium reads commands from descriptor 3 and answers on 4.
    command = f'exec "$0" "$@" 3<&{to_read} 4>&{from_write}'
    process = subprocess.Popen(
        ["bash", "-c", command, found, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
        pass_fds=(to_read, from_write),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_read)
    os.close(from_write)
    try:
        yield Browser(to_write, from_read)
    finally:
        os.close(to_write)
        os.close(from_read)
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
