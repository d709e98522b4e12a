import contextlib
import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ibft.errors import UserError
from ibft.generation.server import Question, ask_server
from ibft.generation.stage import generate
from ibft.recipe import GenerateConfig, ModelConfig, ProblemsConfig, Recipe, ServerConfig
from ibft.rows import Sample, read_rows
from ibft.runs import RunFolder

QUESTIONS = [Question(("t/0", index), f"prompt {index}", index) for index in range(5)]


def answer(text: str) -> dict[str, Any]:
    choice = {"index": 0, "text": text, "finish_reason": "stop", "logprobs": None}
    usage = {"prompt_tokens": 1, "completion_tokens": 7, "total_tokens": 8}
    return {"id": "1", "object": "text_completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}


class FakeServer:
    """An OpenAI-compatible server whose behavior a test scripts: `reply(body, nth request) -> (status, JSON)`."""

    def __init__(self, reply: Callable[[dict[str, Any], int], tuple[int, Any] | None]) -> None:
        self.bodies: list[dict[str, Any]] = []
        lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    outer.bodies.append(body)
                    number = len(outer.bodies)
                replied = reply(body, number)
                if replied is None:
                    self.connection.close()  # drop the connection without a word
                    return
                content = replied[1] if isinstance(replied[1], bytes) else json.dumps(replied[1]).encode()
                self.send_response(replied[0])
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                with contextlib.suppress(BrokenPipeError):  # the client may have given up
                    self.wfile.write(content)

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def serve() -> Iterator[Callable[..., FakeServer]]:
    servers: list[FakeServer] = []

    def start(reply: Callable[[dict[str, Any], int], tuple[int, Any] | None]) -> FakeServer:
        servers.append(FakeServer(reply))
        return servers[-1]

    yield start
    for one in servers:
        one.server.shutdown()
        one.server.server_close()


def config(url: str, **server: Any) -> GenerateConfig:
    options = {"model": "m", "max_retries": 3, "timeout_s": 20, **server}
    return GenerateConfig(backend="server", temperature=0.5, stop=("END",), server=ServerConfig(url=url, **options))


def ask(config: GenerateConfig, arm: str = "base") -> list[Any]:
    return [one for group in ask_server(QUESTIONS, config, arm) for one in group]


def test_each_sample_is_asked_for_with_its_own_seed(serve: Any) -> None:
    server = serve(lambda body, number: (200, answer("echo " + body["prompt"])))
    answers = ask(config(server.url, concurrency=1, models={"ib": "adapter"}), "ib")
    assert [(one.key, one.text, one.num_tokens) for one in answers] == [
        (question.key, "echo " + question.prompt, 7) for question in QUESTIONS
    ]
    first = server.bodies[0]
    assert {body["seed"] for body in server.bodies} == {question.seed for question in QUESTIONS}
    assert (first["model"], first["temperature"], first["max_tokens"]) == ("adapter", 0.5, 512)
    assert first["stop"] == ["END"]


def test_overload_and_dropped_connections_are_retried(serve: Any) -> None:
    def flaky(body: dict[str, Any], number: int) -> tuple[int, Any] | None:
        if number == 1:
            return 503, {"error": "busy"}
        return None if number == 2 else (200, answer("x"))

    server = serve(flaky)
    assert len(ask(config(server.url))) == len(QUESTIONS)
    assert len(server.bodies) == len(QUESTIONS) + 2


@pytest.mark.parametrize(
    ("status", "content", "expected"),
    [
        (404, {"error": "no such model"}, "refused 'm' with status 404"),
        (500, {"error": "broken"}, "refused 'm' with status 500"),
        (200, {"unexpected": 1}, "not a completion of the OpenAI API"),
        (200, b"<html>", "not a completion of the OpenAI API"),
    ],
)
def test_refusals_and_nonsense_are_one_sentence(serve: Any, status: int, content: Any, expected: str) -> None:
    server = serve(lambda body, number: (status, content))
    with pytest.raises(UserError, match=expected) as caught:
        ask(config(server.url, max_retries=0))
    assert "\n" not in str(caught.value)


def test_no_server_and_no_model_name_are_one_sentence() -> None:
    with pytest.raises(UserError, match="Is the server running"):
        ask(config("http://127.0.0.1:9/v1", max_retries=0))
    with pytest.raises(UserError, match=r"generate\.server\.models\.ib"):
        ask(config("http://127.0.0.1:9/v1", model=""), "ib")


def test_a_silent_server_ends_after_the_timeout(serve: Any) -> None:
    server = serve(lambda body, number: (time.sleep(2), (200, answer("x")))[1])
    with pytest.raises(UserError, match=r"no answer within 0\.2 s"):
        ask(config(server.url, max_retries=0, timeout_s=0.2))


def make_recipe(tmp_path: Path, url: str, **generate_options: Any) -> Recipe:
    problems = tmp_path / "problems.jsonl"
    rows = [{"task_id": f"t/{i}", "prompt": f"def f{i}(x):\n", "tests": "", "entry_point": f"f{i}"} for i in range(4)]
    problems.write_text("".join(json.dumps(row) + "\n" for row in rows))
    server = ServerConfig(url=url, model="m", concurrency=1, max_retries=0)
    return Recipe(
        name="served",
        output=str(tmp_path / "runs"),
        problems=ProblemsConfig(source=str(problems)),
        generate=GenerateConfig(num_samples=3, backend="server", server=server, **generate_options),
    )


def test_the_stage_goes_on_after_a_crash_and_asks_for_the_missing_samples_only(serve: Any, tmp_path: Path) -> None:
    def crash(body: dict[str, Any], number: int) -> tuple[int, Any] | None:
        return (200, answer("    return x\nprint(1)")) if number != 7 else (400, {"error": "crash"})

    server = serve(crash)
    recipe = make_recipe(tmp_path, server.url)
    with RunFolder(recipe).open() as run:
        with pytest.raises(UserError, match="status 400"):
            generate(recipe, run, "base")
        asked = len(server.bodies)
        generate(recipe, run, "base")
        samples = list(read_rows(run.path / "generate" / "base" / "samples.jsonl", Sample))
    assert [(row.task_id, row.index) for row in samples] == [(f"t/{i}", j) for i in range(4) for j in range(3)]
    assert {row.completion for row in samples} == {"    return x\n"}
    assert len(server.bodies) - asked < 12  # what the first run had written was kept


@pytest.mark.slow
def test_transformers_serve_gives_what_the_local_backend_gives(tiny_model_folder: Path, tmp_path: Path) -> None:
    port = 18231
    command = [str(Path(sys.executable).parent / "transformers"), "serve", "--port", str(port), "--device", "cpu"]
    log = (tmp_path / "log").open("w")
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", process)
        recipe = make_recipe(tmp_path, f"http://127.0.0.1:{port}/v1", temperature=0.0, max_new_tokens=6)
        server = ServerConfig(url=recipe.generate.server.url, model=str(tiny_model_folder))
        model = ModelConfig(name=str(tiny_model_folder), dtype="float32", device="cpu")
        texts = {}
        for backend in ("local", "server"):
            sampling = GenerateConfig(
                num_samples=2,
                temperature=0,
                max_new_tokens=6,
                backend=backend,
                server=server,  # type: ignore[arg-type]
            )
            one = Recipe(name=backend, output=recipe.output, model=model, problems=recipe.problems, generate=sampling)
            with RunFolder(one).open() as run:
                generate(one, run, "base")
                rows = read_rows(run.path / "generate" / "base" / "samples.jsonl", Sample)
                texts[backend] = [(row.task_id, row.completion) for row in rows]
        assert texts["server"] == texts["local"]
    finally:
        process.kill()
        process.wait()
        log.close()


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while True:
        assert process.poll() is None, "transformers serve ended"
        assert time.monotonic() < deadline, "transformers serve did not start"
        try:
            urllib.request.urlopen(url, timeout=5)
            return
        except OSError:
            time.sleep(0.5)


def test_a_sample_keeps_what_the_model_wrote_where_its_answer_is_less(serve: Any, tmp_path: Path) -> None:
    (tmp_path / "problems.jsonl").write_text(
        '{"task_id": "t/0", "prompt": "import math\\n\\ndef f(x):\\n", "tests": "assert f(1)", "entry_point": "f"}\n'
    )
    texts = [
        "    return x\n",
        "    return x\n\nprint(f(1))\n",
        "```python\ndef f(x):\n    return x\n```\n",
        "\n\ndef g():\n",
    ]
    server = serve(lambda body, number: (200, answer(texts[number - 1])))
    recipe = Recipe(
        name="raw",
        output=str(tmp_path),
        model=ModelConfig(name="nothing"),
        problems=ProblemsConfig(source=str(tmp_path / "problems.jsonl")),
        generate=GenerateConfig(
            backend="server",
            num_samples=4,
            server=ServerConfig(url=server.url, model="m", concurrency=1),
        ),
    )
    run = RunFolder(recipe)
    generate(recipe, run, "base")
    rows = list(read_rows(run.path / "generate" / "base" / "samples.jsonl", Sample))
    assert [(row.completion, row.solution, row.raw) for row in rows] == [
        ("    return x\n", None, None),
        ("    return x\n\n", None, texts[1]),
        (None, "import math\n\ndef f(x):\n    return x\n", texts[2]),
        ("\n\n", None, texts[3]),
    ]
