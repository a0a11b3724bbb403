"""A local double of W&B's server: answers what wandb's client asks, and keeps what it is sent.

It speaks the part of the API that wandb 0.31 uses for runs: GraphQL at ``/graphql`` (who am I,
does this run exist, make it, where do files go, artifacts), and one ``file_stream`` a run, to
which the client posts lines of ``wandb-history.jsonl`` at an offset. Found by watching the client.

    with WandbServer() as server:
        os.environ.update(server.environment)   # and nothing leaves the machine
        ...
        server.behave("silent")                 # accept, and never answer
        server.runs["abc"].steps                # [1, 2, 3]

Like the real one it takes the same lines at the same offset again, which is how the client
repeats a request whose answer it missed; unlike the real one it refuses (400, and a note in
``refused``) a step that was sent before at another offset, or that is below the one before it.
"""

from __future__ import annotations

import gzip
import itertools
import json
import re
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal

Behaviour = Literal["up", "unauthorized", "silent", "down"]
KEY = "0123456789abcdef" * 2 + "01234567"  # 40 characters, as the client wants
ENTITY = "double"
STREAM = re.compile(r"/files/(?P<entity>[^/]+)/(?P<project>[^/]+)/(?P<run>[^/]+)/file_stream")


@dataclass
class ServedRun:
    """One run, as it arrived.

    Attributes:
        rows: history by its line number, which is what the client counts in.
        facts: what the run was made with: ``groupName``, ``jobType``, ``displayName``, …
        complete: the client has said that the run is over.
    """

    run_id: str
    project: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    complete: bool = False
    exit_code: int | None = None

    @property
    def steps(self) -> list[int]:
        """The steps in the order of their lines."""
        return [int(self.rows[line]["_step"]) for line in sorted(self.rows)]

    def take(self, offset: int, rows: list[dict[str, Any]]) -> str | None:
        """Take lines in; what is wrong with them, if anything."""
        after = {**self.rows, **{offset + i: row for i, row in enumerate(rows)}}
        steps = [int(after[line]["_step"]) for line in sorted(after)]
        if sorted(after) != list(range(len(after))):
            return f"{self.run_id}: lines {offset}… leave a gap"
        wrong = [b for a, b in itertools.pairwise(steps) if b <= a]
        if wrong:
            return f"{self.run_id}: step {wrong[0]} comes twice or goes backwards: {steps}"
        self.rows = after
        return None


class WandbServer:
    """The server; as a context manager it is up, and gone at the end.

    Args:
        behaviour: ``up`` answers; ``unauthorized`` says 401 to everything; ``silent`` accepts
            connections and answers nothing; ``down`` refuses connections.

    Attributes:
        runs: what arrived, by run id.
        refused: lines that were refused, and why.
        requests: paths, or names of GraphQL operations, in the order they came.
        sweeps: what sweeps were made with, by id.
        views: workspaces and reports, as last saved, by id.
    """

    def __init__(self, behaviour: Behaviour = "up") -> None:
        self.behaviour: Behaviour = "up"
        self.runs: dict[str, ServedRun] = {}
        self.refused: list[str] = []
        self.requests: list[str] = []
        self.sweeps: dict[str, dict[str, Any]] = {}
        self.views: dict[str, dict[str, Any]] = {}
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self._connections: set[socket.socket] = set()
        self._http: _Http | None = None
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = int(probe.getsockname()[1])
        self._open()
        self.behave(behaviour)

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs to talk to this server, and to nobody else."""
        return {
            "WANDB_BASE_URL": f"http://127.0.0.1:{self.port}",
            "WANDB_API_KEY": KEY,
            "WANDB_ERROR_REPORTING": "false",
        }

    def behave(self, behaviour: Behaviour) -> None:
        """From now on; connections that are open are cut."""
        with self.changed:
            self.behaviour = behaviour
            self.changed.notify_all()
        self._cut()
        if behaviour == "down":
            self._shut()
        elif self._http is None:
            self._open()

    def close(self) -> None:
        """Go away for good."""
        self.behave("down")

    def __enter__(self) -> WandbServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self) -> None:
        self._http = _Http(("127.0.0.1", self.port), _Handler)
        self._http.double = self
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def _shut(self) -> None:
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http = None
            self._cut()  # those that came in the meantime

    def _cut(self) -> None:
        with self.lock:
            for connection in self._connections:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue
            self._connections.clear()

    # what is asked

    def answer(self, operation: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The ``data`` of a GraphQL answer."""
        handlers = {
            "RunResumeStatus": self._resume_status,
            "Viewer": self._viewer,
            "UpsertBucket": self._upsert,
            "CreateRunFiles": self._run_files,
            "ServerFeaturesQuery": self._features,
            "ArtifactType": self._artifact_type,
            "CreateArtifact": self._artifact,
            "UpsertSweep": self._sweep,
            "GetDefaultEntity": self._viewer,
            "UpsertView2": self._view,
            "upsertView": self._view,
            "ProjectInternalId": self._project_id,
            "GetProjects": self._projects,
        }
        return handlers[operation](asked) if operation in handlers else {}

    def stream(self, project: str, run_id: str, body: Mapping[str, Any]) -> str | None:
        """Take a post to a run's file stream in; what is wrong with it, if anything."""
        run = self.runs.setdefault(run_id, ServedRun(run_id, project))
        for name, part in body.get("files", {}).items():
            lines = part.get("content", [])
            if name == "wandb-history.jsonl":
                wrong = run.take(int(part["offset"]), [json.loads(line) for line in lines])
                if wrong is not None:
                    self.refused.append(wrong)
                    return wrong
            elif name == "wandb-summary.json" and lines:
                run.summary = json.loads(lines[-1])
        if body.get("complete"):
            run.complete, run.exit_code = True, body.get("exitcode")
        return None

    def _resume_status(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        run = self.runs.get(asked["name"])
        bucket = None
        if run is not None:
            tail = [json.dumps(run.rows[max(run.rows)])] if run.rows else []
            config = {key: {"value": value} for key, value in run.config.items()}
            bucket = {
                **self._bucket(run),
                "summaryMetrics": json.dumps(run.summary),
                "historyTail": json.dumps(tail),
                "eventsTail": "[]",
                "eventsLineCount": 0,
                "logLineCount": 0,
                "config": json.dumps(config),
                "tags": [],
                "notes": None,
                "wandbConfig": json.dumps({"t": 1}),
            }
        entity = {"id": "e", "name": ENTITY}
        return {"model": {"id": "p", "name": asked["project"], "entity": entity, "bucket": bucket}}

    def _viewer(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        account = {"id": "u", "username": "me", "email": None, "admin": False, "flags": "{}"}
        teams: dict[str, Any] = {"edges": []}
        return {"viewer": {**account, "name": "me", "entity": ENTITY, "teams": teams}}

    def _upsert(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        name = asked["name"]
        new = name not in self.runs
        run = self.runs.setdefault(name, ServedRun(name))
        run.project = asked.get("project") or run.project
        run.facts.update({key: value for key, value in asked.items() if value is not None})
        given = json.loads(asked.get("config") or "{}")
        run.config.update({key: entry["value"] for key, entry in given.items()})
        return {"upsertBucket": {"bucket": self._bucket(run), "inserted": new}}

    def _bucket(self, run: ServedRun) -> dict[str, Any]:
        project = {"id": "p", "name": run.project, "entity": {"id": "e", "name": ENTITY}}
        return {
            "id": run.run_id,
            "name": run.run_id,
            "displayName": run.facts.get("displayName") or run.run_id,
            "description": "",
            "config": "{}",
            "sweepName": None,
            "project": project,
            "historyLineCount": len(run.rows),
        }

    def _run_files(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        base = self.environment["WANDB_BASE_URL"]
        files = [
            {"name": name, "uploadUrl": f"{base}/storage/{asked['run']}/{name}"}
            for name in asked["files"]
        ]
        found = {"runID": asked["run"], "uploadHeaders": [], "files": files}
        return {"createRunFiles": found}

    def _features(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def _artifact_type(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        return {"project": {"artifact": None}}

    def _artifact(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        # said to be there already: tables come as files of the run all the same
        digest = asked["input"]["digest"]
        latest = {"latestArtifact": {"id": digest}}
        artifact = {"id": digest, "state": "COMMITTED", "artifactSequence": latest}
        return {"createArtifact": {"artifact": artifact}}

    def _sweep(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        name = asked.get("id") or f"sweep{len(self.sweeps)}"
        self.sweeps[name] = dict(asked)
        return {"upsertSweep": {"sweep": {"name": name}, "configValidationWarnings": []}}

    def _view(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        new = not asked.get("id")
        name = asked.get("id") or f"view{len(self.views)}"
        self.views[name] = dict(asked)
        place = {"id": "p", "name": asked["projectName"], "entityName": asked["entityName"]}
        shown = {key: asked.get(key) for key in ("type", "name", "displayName", "description")}
        view = {"id": name, **shown, "project": place, "spec": asked["spec"], "updatedAt": None}
        return {"upsertView": {"view": view, "inserted": new}}

    def _project_id(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        return {"project": {"internalId": "p"}}

    def _projects(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        names = sorted({run.project for run in self.runs.values()})
        made = {
            "entityName": ENTITY,
            "createdAt": "2026-01-01T00:00:00Z",
            "isBenchmark": False,
            "user": None,
        }
        edges = [{"node": {"id": name, "name": name, **made}, "cursor": name} for name in names]
        page = {"endCursor": None, "hasNextPage": False}
        return {"models": {"edges": edges, "pageInfo": page}}

    def keep(self, path: str, content: bytes) -> None:
        """A file that was put under ``/storage/<run>/<name>``."""
        run_id, _, name = path.removeprefix("/storage/").partition("/")
        if run_id in self.runs:
            self.runs[run_id].files[name] = content


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128  # five, the default, cost a client seconds when it sends many files
    double: WandbServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up, or was cut: nothing to say."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Http

    def setup(self) -> None:
        super().setup()
        with self.server.double.lock:
            self.server.double._connections.add(self.connection)

    def finish(self) -> None:
        with self.server.double.lock:
            self.server.double._connections.discard(self.connection)
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Nothing to the terminal."""

    def _serve(self) -> None:
        double = self.server.double
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        with double.changed:
            if double.behaviour == "silent":
                double.requests.append(f"{self.path} (no answer)")
                double.changed.wait_for(lambda: double.behaviour != "silent")
                self.close_connection = True
                return
            if double.behaviour != "up":
                self._answer(401, {"errors": [{"message": "invalid API key"}]})
                return
            self._route(double, body)

    do_GET = do_POST = do_PUT = _serve  # noqa: N815 - the base's names

    def _route(self, double: WandbServer, body: bytes) -> None:
        if self.path == "/graphql":
            asked = json.loads(body)
            operation = asked.get("operationName") or re.split(r"\W+", asked["query"].strip())[1]
            double.requests.append(operation)
            self._answer(200, {"data": double.answer(operation, asked.get("variables") or {})})
        elif (place := STREAM.fullmatch(self.path)) is not None:
            double.requests.append(self.path)
            wrong = double.stream(place["project"], place["run"], json.loads(body))
            self._answer(200 if wrong is None else 400, {"error": wrong} if wrong else {})
        else:
            double.requests.append(f"{self.command} {self.path}")
            double.keep(self.path, body)
            self._answer(200, {})

    def _answer(self, status: int, content: Mapping[str, Any]) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
