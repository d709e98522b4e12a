"""The HTTP service: verdicts as in this process, refusals in words, SandboxFusion's formats, and the client."""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import json
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvicorn
from click.testing import CliRunner

from ibft.artifacts.rows import Problem, Sample
from ibft.cli import main
from ibft.errors import UserError
from ibft.execution import Job, Limits, Pool, Reference, execute_all
from ibft.execution.inside import lockdown
from ibft.execution.service.access import read_token
from ibft.execution.service.app import create_app
from ibft.execution.service.client import RemotePool
from ibft.execution.service.desk import Desk, ServiceLimits
from ibft.execution.settings import resolve_settings
from ibft.run.sections import JudgeConfig

pytestmark = pytest.mark.skipif(not lockdown.landlock_abi(), reason="this kernel has no Landlock")
PROBLEM = Problem(
    task_id="t/0", prompt="def f(x):\n", tests="assert f(2) == 4\n", entry_point="f",
    canonical_solution="    return 2 * x\n",
)  # fmt: skip
TOKEN = "a-token-of-many-letters"
ENDLESS = "    while True: pass\n"
LIMITS = Limits(cpu_s=2, wall_s=10, memory_mib=512)
REFERENCE = Reference(status="passed", message="passed", cpu_time_s=0.01)
ROOT = Path(__file__).parent.parent.parent


@contextlib.contextmanager
def running(token: str | None = None, **limits: Any) -> Iterator[str]:
    """A service of one worker that knows the problem as one of `toy`."""
    settings = resolve_settings(JudgeConfig(workers=1, timeout_s=1))
    desk = Desk(Pool(1, settings.level), settings, {"toy": {"t/0": PROBLEM}}, ServiceLimits(**limits))
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(desk, token), log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running(max_jobs=8, max_body_bytes=100_000) as address:
        yield address


def post(address: str, content: Any, **headers: str) -> tuple[int, Any]:
    """Status and content of an answer."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, {**json.load(error), "retry": error.headers.get("Retry-After")}


def test_answers_come_back_in_their_order_for_problems_given_whole_or_by_name(url: str) -> None:
    answers = ["    return 4\n", "    return 5\n", "", ENDLESS, "```python\ndef f(x): return 2 * x\n```"]
    expected = ["passed", "failed", "no_code", "timeout", "passed"]
    for problem in ({"task_id": "t/0"}, {"problem": msgspec.to_builtins(PROBLEM)}, {"dataset": "toy", "task_id": "0"}):
        status, content = post(f"{url}/judge", {**problem, "answers": answers})
        found = [outcome["status"].removesuffix("_cpu").removesuffix("_wall") for outcome in content["outcomes"]]
        assert (status, found) == (200, expected)
        assert content["reference"]["status"] == "passed"
    broken = {**msgspec.to_builtins(PROBLEM), "canonical_solution": "    return 5\n"}
    assert post(f"{url}/judge", {"problem": broken, "answers": answers})[1]["outcomes"][0]["status"] == "excluded"
    with urllib.request.urlopen(f"{url}/metrics") as response:
        assert b'ibft_verdicts_total{status="failed"} ' in response.read()


@pytest.mark.parametrize(
    ("path", "content", "status", "words"),
    [
        ("judge", b"{", 422, "truncated"),
        ("judge", b"\xff\xfe", 422, ""),
        ("judge", {"task_id": "t/0"}, 422, "answers"),
        ("judge", {"task_id": "t/0", "answers": [1]}, 422, "answers[0]"),
        ("judge", {"task_id": "t/0", "answers": [], "answer": ""}, 422, "unknown field `answer`"),
        ("judge", {"task_id": "t/9", "answers": []}, 404, "'t/9' is in none of toy"),
        ("judge", {"dataset": "other", "task_id": "t/0", "answers": []}, 404, "'other' is not served: toy"),
        ("judge", {"task_id": "t/0", "answers": [""] * 9}, 413, "at most 8"),
        ("judge", {"task_id": "t/0", "answers": ["x" * 100_000]}, 413, "more than 100000 bytes"),
        ("judge", {"problem": {"task_id": "", "prompt": "", "tests": "", "language": "cobol"}, "answers": [""]}, 422,
         "'cobol' is not known"),
        ("judge", {"problem": {"task_id": "mine", "prompt": "", "tests": "assert 1"}, "answers": [""]}, 422,
         "the tests of mine use nothing that the candidate defines"),
        ("judge", {"task_id": "t/0", "answers": [""], "limits": {"cpu_s": 1e9, "wall_s": 1, "memory_mib": 9}}, 422,
         "at most 1200 s"),
        ("jobs", {"problems": [], "jobs": [{"problem": 0, "limits": msgspec.to_builtins(LIMITS)}]}, 422,
         "no problem 0"),
        ("run_code", {"code": "1", "language": "python", "memory_limit_MB": 10**6}, 422, "8192 MiB"),
        ("submit", {"dataset": "toy", "id": 7, "completion": ""}, 404, "'7' is in none of toy"),
    ],
)  # fmt: skip
def test_what_cannot_be_judged_is_refused_in_words(url: str, path: str, content: Any, status: int, words: str) -> None:
    found, answer = post(f"{url}/{path}", content)
    assert (found, words in answer["detail"]) == (status, True), answer


def test_more_than_there_is_room_for_is_told_to_come_back() -> None:
    with running(max_jobs=1) as url, ThreadPoolExecutor(1) as threads:
        busy = threads.submit(post, f"{url}/judge", {"task_id": "t/0", "answers": [ENDLESS]})
        while b"ibft_jobs 1\n" not in urllib.request.urlopen(f"{url}/metrics").read():
            time.sleep(0.01)
        status, content = post(f"{url}/judge", {"task_id": "t/0", "answers": [""]})
        assert (status, content["retry"]) == (503, "1")
        assert post(f"{url}/run_code", {"code": "", "language": "python"})[0] == 504
        assert busy.result()[1]["outcomes"][0]["status"].startswith("timeout")
        assert post(f"{url}/judge", {"task_id": "t/0", "answers": [""]})[0] == 200


def test_with_a_token_only_who_has_it_is_served() -> None:
    with running(TOKEN) as url:
        body = {"task_id": "t/0", "answers": ["    return 4\n"]}
        basic = base64.b64encode(f"anyone:{TOKEN}".encode()).decode()
        for header in ("", f"Bearer {TOKEN}x", "Bearer ", f"Digest {TOKEN}", "Basic !", "Bearer \u00e9"):
            assert post(f"{url}/judge", body, Authorization=header)[0] == 401
        for header in (f"Bearer {TOKEN}", f"Basic {basic}"):
            assert post(f"{url}/judge", body, Authorization=header)[0] == 200
        with pytest.raises(UserError, match="401"), RemotePool(url) as pool:
            list(pool.run([(0, Job(problem=PROBLEM, limits=LIMITS))]))
        with RemotePool(url, TOKEN) as pool:
            assert execute_all([(PROBLEM, "    return 4\n")], pool=pool)[0].passed


@pytest.mark.parametrize("headers", [{"Origin": "http://page.example"}, {"Host": "page.example"}])
def test_without_a_token_no_web_page_is_served(url: str, headers: dict[str, str]) -> None:
    assert post(f"{url}/judge", {"task_id": "t/0", "answers": [""]}, **headers)[0] == 403


def test_tokens_that_are_missing_short_or_unreadable_are_refused(tmp_path: Path) -> None:
    good = tmp_path / "token"
    good.write_text(f"{TOKEN}\n")
    assert read_token("0.0.0.0", good, None) == read_token("0.0.0.0", None, TOKEN) == TOKEN
    assert read_token("127.0.0.1", None, None) is read_token("localhost", None, None) is None
    for host, path, environment in [
        ("0.0.0.0", None, None), ("::", None, None), ("my.host", None, None), ("127.0.0.1", None, "short"),
        ("127.0.0.1", None, ""), ("127.0.0.1", tmp_path / "none", TOKEN),
    ]:  # fmt: skip
        with pytest.raises(UserError):
            read_token(host, path, environment)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "0.0.0.0"], "lets other machines run programs on this one"),
        (["--problems", "nowhere"], "'nowhere' is unknown"),
        (["--port", "TAKEN"], "cannot listen on 127.0.0.1"),
        (["--timeout", "0"], "not in the range"),
    ],
)
def test_a_service_that_cannot_start_says_why(arguments: list[str], words: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        filled = [port if argument == "TAKEN" else argument for argument in arguments]
        result = CliRunner().invoke(main, ["serve", "judge", *filled], env={"IBFT_TOKEN": None})
    assert result.exit_code == 2
    assert words in result.output


def verl_reward(address: str, code: str, stdin: str, expected: str, timeout: int = 2) -> Any:
    """What verl's client of SandboxFusion makes of a program: True, False or a negative code, after what it posts."""
    payload = {
        "compile_timeout": timeout, "run_timeout": timeout, "code": code, "stdin": stdin, "memory_limit_MB": 1024,
        "language": "python", "files": {}, "fetch_files": [],
    }  # fmt: skip
    for _ in range(3):
        status, answer = post(f"{address}/run_code", payload)
        if status != 504:
            break
    assert status == 200, answer
    run = answer["run_result"]
    if answer["status"] == "SandboxError":
        return -1
    if answer["status"] == "Failed":
        if run["status"] == "TimeLimitExceeded":
            return -3
        return -2 if run["return_code"] else -1
    assert (answer["status"], run["status"], answer["compile_result"]) == ("Success", "Finished", None)
    return run["stdout"].rstrip("\n") == expected.rstrip("\n")


@pytest.mark.parametrize(
    ("code", "reward"),
    [
        ("print(int(input()) + 1)", True),
        ("print(int(input()))", False),
        ("print(1", -2),
        ("raise ValueError", -2),
        ("import sys; print(42); sys.exit(3)", -2),
        ("import sys; sys.exit(0)", False),
        ("while True: pass", -3),
        ("import time; time.sleep(60)", -3),
        ("x = bytearray(1 << 31); print(42)", -2),
        ("import numpy as np; print(np.int64(input()) + 1)", True),
        ("open('/etc/passwd')", -2),
        ("import socket; socket.socket()", -2),
    ],
)
def test_run_code_gives_verls_client_the_right_reward(url: str, code: str, reward: Any) -> None:
    assert verl_reward(url, code, "41\n", "42\n") == reward


def test_run_code_refuses_what_it_does_not_do_in_its_own_schema(url: str) -> None:
    for more, words in [({"language": "cobol"}, "'cobol' is not supported"), ({"files": {"a": ""}}, "files are not")]:
        status, answer = post(f"{url}/run_code", {"code": "", "language": "python", **more})
        assert (status, answer["status"], words in answer["message"]) == (200, "SandboxError", True)


def test_a_client_that_hangs_up_ends_its_program(url: str) -> None:
    sleeping = {"code": "import time; time.sleep(60)", "language": "python", "compile_timeout": 100}
    body = json.dumps(sleeping).encode()
    request = urllib.request.Request(f"{url}/run_code", body, {"Content-Type": "application/json"})
    for _ in range(2):  # one runs, one waits
        with pytest.raises(TimeoutError):
            urllib.request.urlopen(request, timeout=0.5)
    start = time.monotonic()
    status, answer = post(f"{url}/run_code", {"code": "print(1)", "language": "python"})
    assert (status, answer["run_result"]["stdout"]) == (200, "1\n")
    assert time.monotonic() - start < 20


def test_submit_judges_an_answer_to_a_problem_of_a_data_set(url: str) -> None:
    answer = "Sure:\n```python\ndef f(x):\n    return 2 * x\n```\n"
    for dataset, task_id in (("toy", "t/0"), ("toy_python", 0)):
        status, content = post(f"{url}/submit", {"dataset": dataset, "id": task_id, "completion": answer, "config": {}})
        assert (status, content["accepted"], content["id"]) == (200, True, task_id)
        assert "return 2 * x" in content["extracted_code"]
        assert content["tests"][0]["exec_info"]["run_result"]["return_code"] == 0
    content = post(f"{url}/submit", {"dataset": "toy", "id": "t/0", "completion": ENDLESS})[1]
    assert (content["accepted"], content["tests"][0]["passed"]) == (False, False)
    assert content["tests"][0]["exec_info"]["run_result"]["status"] == "TimeLimitExceeded"


def job(text: str, limits: Limits = LIMITS) -> Job:
    return Job(problem=PROBLEM, limits=limits, sample=Sample(task_id="t/0", completion=text), reference=REFERENCE)


def test_cancelling_ends_the_program_at_the_other_end(url: str) -> None:
    slow = Limits(cpu_s=100, wall_s=120, memory_mib=512)
    with RemotePool(url) as pool:
        endless = pool.submit(job(ENDLESS, slow))
        time.sleep(1)
        start = time.monotonic()
        assert endless.cancel()
        assert execute_all([(PROBLEM, "    return 4\n")], pool=pool)[0].passed  # by the only worker
        assert time.monotonic() - start < 20


def test_a_service_that_is_not_there_is_waited_for(find_port: Callable[[], int]) -> None:
    address = f"http://127.0.0.1:{find_port()}"
    with pytest.raises(UserError, match="no answer for"), RemotePool(address, patience_s=0.5):
        pass
    with pytest.raises(UserError, match="is not the address of a service"):
        RemotePool("127.0.0.1:8000")


@pytest.fixture
def find_port() -> Callable[[], int]:
    def find() -> int:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            return int(free.getsockname()[1])

    return find


@pytest.mark.slow
def test_a_service_that_is_killed_and_restarted_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("service_benchmark", ROOT / "benchmarks/service.py")
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, benchmark)  # where its dataclass looks for it
    spec.loader.exec_module(benchmark)
    tally, memory = benchmark.measure(num_clients=8, seconds=20, num_kills=1)
    assert sum(tally.verdicts.values()) == tally.num_asked > 100
    assert tally.wrong == []
    assert max(mib for _, mib in memory) < 500
