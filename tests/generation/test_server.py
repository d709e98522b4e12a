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

from ibft.artifacts.json_lines import read_rows
from ibft.artifacts.rows import Sample
from ibft.errors import UserError
from ibft.generation.sent import Sent
from ibft.generation.server import Question, Server
from ibft.run.folder import RunFolder
from ibft.run.recipe import Recipe
from ibft.run.sections import GenerateConfig, ModelConfig, ProblemsConfig, ServerConfig
from ibft.stages.generate import generate

QUESTIONS = [
    Question(("t/0", index), Sent(f"prompt {index}", "\n", 1), Sent(f"prompt {index}\n"), index) for index in range(5)
]


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
    return [answer for group in Server(config, arm).ask(QUESTIONS) for answer in group]


def test_each_sample_is_asked_for_with_its_own_seed(serve: Any) -> None:
    server = serve(lambda body, number: (200, answer("\necho " + body["prompt"])))
    answers = ask(config(server.url, concurrency=1, models={"ib": "adapter"}), "ib")
    assert [(one.wanted, one.text, one.num_tokens, one.is_of_whole) for one in answers] == [
        (question.wanted, f"echo {question.sent.prompt}", 7, False) for question in QUESTIONS
    ]
    first = server.bodies[0]
    assert {body["seed"] for body in server.bodies} == {question.seed for question in QUESTIONS}
    assert (first["model"], first["temperature"], first["max_tokens"]) == ("adapter", 0.5, 513)
    assert first["stop"] == ["END"]


def test_an_answer_without_the_prompts_end_is_asked_for_again_from_the_whole_prompt(serve: Any) -> None:
    server = serve(lambda body, number: (200, answer("tail" if body["prompt"].endswith("\n") else "other")))
    assert [(one.text, one.is_of_whole) for one in ask(config(server.url))] == [("tail", True)] * len(QUESTIONS)
    assert {body["max_tokens"] for body in server.bodies if body["prompt"].endswith("\n")} == {512}
    assert len(server.bodies) == 2 * len(QUESTIONS)


def counted(text: str, num_prompt: int) -> dict[str, Any]:
    return {**answer(text), "usage": {"prompt_tokens": num_prompt, "completion_tokens": 1, "total_tokens": 9}}


@pytest.mark.parametrize(
    ("reply", "takes_tokens"),
    [
        (lambda body, number: (200, counted("x", len(body["prompt"]))), True),
        (lambda body, number: (200, {**answer("x"), "usage": None}), True),
        (lambda body, number: (200, counted("x", len(body["prompt"]) + 1)), False),  # it adds a start token
        (lambda body, number: (400, {"detail": "prompt must be a string."}), False),
        (lambda body, number: (422, {"detail": "unknown field"}), False),
        (lambda body, number: (200, {"unexpected": 1}), False),
    ],
)
def test_a_server_is_asked_once_whether_it_takes_tokens(serve: Any, reply: Any, takes_tokens: bool) -> None:
    server = serve(reply)
    assert Server(config(server.url), "base", {5: "<turn>"}).takes_tokens([3, 4]) is takes_tokens
    [body] = server.bodies
    assert (body["prompt"], body["max_tokens"], body["stop_token_ids"]) == ([3, 4], 1, [5])


@pytest.mark.parametrize("prompt", ["text", "tokens"])
def test_the_recipe_can_say_what_is_sent(serve: Any, prompt: str) -> None:
    server = serve(lambda body, number: (500, {}))
    assert Server(config(server.url, prompt=prompt), "base").takes_tokens([3]) is (prompt == "tokens")
    assert not server.bodies


def test_ends_are_sent_as_tokens_or_as_texts(serve: Any) -> None:
    server = serve(lambda body, number: (200, answer("\nx")))
    for sent in (Sent([1, 2], "\n", 1), Sent("ab", "\n", 1)):
        list(Server(config(server.url), "base", {7: "<turn>"}).ask([Question(("t", 0), sent, sent, 0)]))
    tokens, text = server.bodies
    assert (tokens["stop"], tokens["stop_token_ids"]) == (["END"], [7])
    assert text["stop"] == ["END", "<turn>"]
    assert "stop_token_ids" not in text


def test_overload_and_dropped_connections_are_retried(serve: Any) -> None:
    def flaky(body: dict[str, Any], number: int) -> tuple[int, Any] | None:
        if number == 1:
            return 503, {"error": "busy"}
        return None if number == 2 else (200, answer("\nx"))

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
    with pytest.raises(UserError, match="Is the server running"):
        Server(config("http://127.0.0.1:9/v1", max_retries=0), "base").takes_tokens([1])


def test_a_silent_server_ends_after_the_timeout(serve: Any) -> None:
    server = serve(lambda body, number: (time.sleep(2), (200, answer("\nx")))[1])
    with pytest.raises(UserError, match=r"no answer within 0\.2 s"):
        ask(config(server.url, max_retries=0, timeout_s=0.2))


def make_recipe(tmp_path: Path, url: str, model_folder: Path, prompts: Any = None, **generate_options: Any) -> Recipe:
    problems = tmp_path / "problems.jsonl"
    prompts = prompts or {f"t/{i}": f"def f{i}(x):\n" for i in range(4)}
    rows = [{"task_id": task, "prompt": text, "tests": "", "entry_point": "f"} for task, text in prompts.items()]
    problems.write_text("".join(json.dumps(row) + "\n" for row in rows))
    server = ServerConfig(url=url, model=str(model_folder), concurrency=1, max_retries=0)
    options = {"num_samples": 3, "backend": "server", "elicit": (), **generate_options}
    return Recipe(
        name=f"served-{options['backend']}",
        output=str(tmp_path / "runs"),
        model=ModelConfig(name=str(model_folder), dtype="float32", device="cpu"),
        problems=ProblemsConfig(source=str(problems)),
        generate=GenerateConfig(server=server, **options),
    )


def samples_of(recipe: Recipe) -> list[Sample]:
    with RunFolder(recipe).open() as run:
        generate(recipe, run, "base")
        return list(read_rows(run.path / "generate" / "base" / "samples.jsonl", Sample))


def test_the_stage_goes_on_after_a_crash_and_asks_for_the_missing_samples_only(
    serve: Any, tmp_path: Path, tiny_model_folder: Path
) -> None:
    def crash(body: dict[str, Any], number: int) -> tuple[int, Any] | None:
        if not isinstance(body["prompt"], str):
            return 400, {"error": "text, please"}
        healed = "" if body["prompt"].endswith("\n") else ("\n" if body["prompt"].endswith(":") else ":\n")
        return (200, answer(f"{healed}    return x\nprint(1)")) if number != 8 else (400, {"error": "crash"})

    server = serve(crash)
    recipe = make_recipe(tmp_path, server.url, tiny_model_folder, temperature=0.2)
    with pytest.raises(UserError, match="status 400"):
        samples_of(recipe)
    asked = len(server.bodies)
    samples = samples_of(recipe)
    assert [(row.task_id, row.index) for row in samples] == [(f"t/{i}", j) for i in range(4) for j in range(3)]
    assert {row.completion for row in samples} == {"    return x\n"}
    assert len(server.bodies) - asked < 12  # what the first run had written was kept


def test_a_format_that_the_server_refuses_is_left_out_and_the_others_are_asked(
    serve: Any, tmp_path: Path, tiny_model_folder: Path
) -> None:
    def reply(body: dict[str, Any], number: int) -> tuple[int, Any]:
        is_chat = not isinstance(body["prompt"], str) or "<assistant>" in body["prompt"]
        return (400, {"error": "too long"}) if is_chat else (200, answer("    return x\n"))

    recipe = make_recipe(tmp_path, serve(reply).url, tiny_model_folder, num_samples=1, elicit=("plain", "chat"))
    with RunFolder(recipe).open() as run:
        generate(recipe, run, "base")
        assert sorted(
            path.parent.name for path in run.path.glob("generate/*/samples.jsonl") if path.parent.suffix != ".partial"
        ) == ["base", "base@plain"]


def test_without_its_tokenizer_a_server_cannot_be_asked(serve: Any, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    server = serve(lambda body, number: (200, answer("x")))
    with pytest.raises(UserError, match=r"^model\.name: .*nothing cannot be loaded") as caught:
        samples_of(make_recipe(tmp_path, server.url, tmp_path / "nothing"))
    assert "\n" not in str(caught.value)
    assert not server.bodies


@pytest.mark.slow
def test_transformers_serve_gives_what_the_local_backend_gives(
    knowing_folder: Path, functions: Any, tmp_path: Path
) -> None:
    """It takes no tokens, and decodes those of the answer alone: without the first space, in the one family."""
    port = 18231
    command = [str(Path(sys.executable).parent / "transformers"), "serve", "--port", str(port), "--device", "cpu"]
    prompts = {name: functions[name][0] for name in ("double", "greet", "first")}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", process)
            for backend in ("local", "server"):
                options = {"num_samples": 2, "temperature": 0.0, "max_new_tokens": 60, "backend": backend}
                url = f"http://127.0.0.1:{port}/v1"
                rows = samples_of(make_recipe(tmp_path, url, knowing_folder, prompts, **options))
                assert [(row.task_id, row.completion) for row in rows] == [
                    (name, functions[name][1]) for name in prompts for _ in range(2)
                ]
        finally:
            process.kill()
            process.wait()


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


@pytest.mark.parametrize("prompt", ["auto", "text"])
def test_without_its_package_the_remedy_is_named(prompt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    server = Server(config("http://127.0.0.1:9/v1", prompt=prompt), "base")
    with pytest.raises(UserError, match=r"pip install 'ibft\[server\]'"):
        server.takes_tokens([1]) if prompt == "auto" else list(server.ask(QUESTIONS))
