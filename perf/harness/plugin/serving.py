"""A way to run: one pass in a worker process, which measures each case when its parent process asks for it.

Requests and replies are lines of JSON. The parent keeps and reports the results.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest

from perf.harness.measurement.rounds import Pass
from perf.harness.plugin import stock
from perf.harness.plugin.measure import Measure
from perf.harness.record.store import plain


class Requests:
    """The worker's end of the pipes to its parent. A plugin of pytest, so that the hooks find it.

    `asked` is the number of the request that the next reply answers, and `begin` a clock's reading when the pass began.
    """

    NAME = "stepwatch-pass"

    def __init__(self, number: int, of: int, requests: TextIO, replies: TextIO, asked: int, begin: float) -> None:
        self.__name__ = self.NAME  # the name under which pytest registers the plugin
        self.number, self.of, self.begin = number, of, begin
        self.ended = False  # whether the parent has said that it wants no more
        self._requests, self._replies, self._asked = requests, replies, asked

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for line in self._requests:
            asked = json.loads(line)
            self._asked = asked["number"]
            if asked["do"] == "end":
                self.ended = True
                self.reply({})
                return
            yield asked["with"]

    def reply(self, message: dict[str, Any]) -> None:
        self._replies.write(json.dumps(plain({**message, "number": self._asked})) + "\n")
        self._replies.flush()


class Serving(Measure):
    """Measures each case when the parent asks for it. Writes and prints nothing."""

    def __init__(self, config: pytest.Config, requests: Requests) -> None:
        super().__init__(config)
        self._requests = requests
        self._text = ""
        self._printed = ["", ""]
        self._warnings: list[tuple[str, str, str, int]] = []
        config.pluginmanager.register(self)

    def recorded(self) -> None:
        """Nothing: the parent publishes what all passes have measured."""

    def start(self, session: pytest.Session) -> None:
        try:
            super().start(session)
        except pytest.UsageError as error:
            self._requests.reply({"error": str(error)})
            raise

    def loop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        self._requests.reply({"pass_s": time.perf_counter() - self._requests.begin})
        for request in self._requests:
            cache = request["cache"] and Path(request["cache"])
            self.one = Pass(self._requests.number, self._requests.of, request["call_s"], request["iterations"], cache)
            self._requests.reply(self._run(items[request["name"]]))
        return True

    def _run(self, item: pytest.Item) -> dict[str, Any]:
        self._text, self._warnings, self._printed = "", [], ["", ""]
        begin = time.perf_counter()
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
        case, wall_s = self.state.cases[item.nodeid], time.perf_counter() - begin
        reply = {
            "outcome": case.outcome, "reason": case.reason, "text": self._text, "warnings": self._warnings,
            "printed": self._printed, "wall_s": wall_s, "lost": self.is_spoilt,
        }  # fmt: skip
        measured = next((one for one in stock.benchmarks(item.config) if one.fullname == item.nodeid), None)
        if measured is not None:
            reply |= {
                "seconds": measured.stats.data,
                "iterations": measured.iterations,
                "info": measured.extra_info,
                "options": measured.as_dict(stats=False)["options"],
            }
        return reply

    def ended(self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
        super().ended(item, call, report)
        if report.failed:
            self._text = "\n".join(filter(None, [self._text, report.longreprtext]))
        self._printed = [report.capstdout, report.capstderr]  # of all phases so far, so the last one has everything

    @pytest.hookimpl
    def pytest_warning_recorded(self, warning_message: Any) -> None:
        said = warning_message
        self._warnings.append((str(said.message), said.category.__name__, said.filename, said.lineno))

    def _write(self) -> None: ...

    def finish(self, session: pytest.Session) -> None: ...

    def summarize(self, terminal: pytest.TerminalReporter) -> None: ...
