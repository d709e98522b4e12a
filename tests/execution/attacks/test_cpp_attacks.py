"""Attacks in C++: on the compiler, by the program that it makes, and on the tests of a function."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator

import msgspec
import pytest
from cpp_problems import ADD, DOUBLE, RIGHT_ADD, RIGHT_DOUBLE, RIGHT_WEAK, WEAK
from hostile.baits import Baits, descendants, left_behind

from ibft.artifacts.rows import Problem, Sample
from ibft.execution.isolation import Level, detect_level
from ibft.execution.languages.cpp import CPP
from ibft.execution.outcome import Job, Outcome, Reference
from ibft.execution.sandbox import Limits, Sandbox

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")]

LIMITS = Limits(cpu_s=0.5, wall_s=2, memory_mib=512)
HEADERS = """
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>
"""


class Bench:
    """Judges hostile answers amid baits; afterwards nothing may have changed and an honest answer must pass."""

    def __init__(self, level: Level, baits: Baits) -> None:
        self._level, self._baits = level, baits
        self._sandboxes: dict[tuple[bool, bool], Sandbox] = {}

    def sandboxes(self, *, tools: object = (), compiles: bool = False, packages: object = ()) -> Sandbox:
        key = (bool(tools), compiles)
        if key not in self._sandboxes:
            made = Sandbox(self._level, tools=list(tools), compiles=compiles)  # type: ignore[call-overload]
            self._sandboxes[key] = self._baits.enter_context(made)
        self._sandboxes[key].start()
        return self._sandboxes[key]

    def judge(self, problem: Problem, source: str, *, is_weak: bool = False) -> Outcome:
        reference = Reference(status="passed", message="", is_weak=is_weak)
        sample = Sample(task_id=problem.task_id, completion=source)
        job = Job(problem=problem, limits=LIMITS, sample=sample, reference=reference)
        return CPP.judge(job, CPP.prepare(problem), self.sandboxes)

    def attack(self, problem: Problem, source: str, *, is_weak: bool = False) -> Outcome:
        self.sandboxes(tools=[shutil.which("g++")], compiles=True)
        self.sandboxes(compiles=True)
        before, processes = self._baits.look(), {*descendants()}
        outcome = self.judge(problem, self._baits.fill_in(source), is_weak=is_weak)
        assert self._baits.effects(before) == []
        assert left_behind({*processes, self._baits.victim.pid}) == []
        assert self._baits.token not in outcome.message
        assert outcome.status not in ("passed", "infrastructure_error"), outcome
        return outcome


@pytest.fixture(scope="module", params=[pytest.param("bubblewrap"), pytest.param("landlock", marks=pytest.mark.slow)])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    if request.param == "bubblewrap" and detect_level() != "bubblewrap":
        pytest.skip("no bubblewrap, or no user namespaces, here")
    with Baits() as baits:
        bench = Bench(request.param, baits)
        yield bench
        for problem, right, is_weak in (
            (ADD, RIGHT_ADD, False),
            (DOUBLE, RIGHT_DOUBLE, False),
            (WEAK, RIGHT_WEAK, True),
        ):
            assert bench.judge(problem, right, is_weak=is_weak).status == "passed"


PROGRAMS = {
    "a process": 'if (fork() >= 0) { creat("@MARK@", 0600); puts("3"); }',
    "a process by clone": 'if (syscall(56, 17, 0, 0, 0, 0) >= 0) puts("3");',
    "a process by clone3": 'unsigned long a[11] = {0, 0, 0, 0, 17}; if (syscall(435, a, 88) >= 0) puts("3");',
    "a namespace": 'if (syscall(272, 0x10000000) == 0) puts("3");',
    "a fork bomb": "for (;;) fork();",
    "a daemon": "if (fork() == 0) { setsid(); sleep(60); }",
    "a thread": 'pthread_t t; if (!pthread_create(&t, 0, [](void*) -> void* { return 0; }, 0)) puts("3");',
    "a shell": 'system("touch \'@MARK@\'"); popen("touch \'@MARK@\'", "r");',
    "becoming a shell": 'execl("/bin/sh", "sh", "-c", "touch \'@MARK@\'; echo 3", nullptr);',
    "becoming a tool": 'execl("/usr/bin/env", "env", nullptr); execl("/bin/ls", "ls", "/", nullptr);',
    "becoming a tool by the loader": 'execl("/lib64/ld-linux-x86-64.so.2", "ld", "/bin/echo", "3", nullptr);',
    "becoming itself again and again": 'execl("./answer", "answer", nullptr);',
    "reading a secret": 'char b[99] = {}; int f = open("@SECRET@", 0); read(f, b, 98); puts(b);',
    "reading the system": 'if (fopen("/etc/passwd", "r") || fopen("/proc/self/maps", "r")) puts("3");',
    "reading its source": 'if (fopen("answer.cpp", "a")) puts("3");',
    "a file in the home folder": 'creat("@MARK@", 0600); mkdir("@MARK@", 0700); symlink("/", "@MARK@");',
    "files elsewhere": 'creat("/tmp/@MARK_NAME@", 0600); creat("/dev/shm/@MARK_NAME@", 0600);'
    ' creat("../@MARK_NAME@", 0600);',
    "a file for the next case": 'if (creat("kept", 0600) >= 0) puts("3");',
    "another program in its place": 'if (unlink("answer") == 0 || open("answer", O_RDWR) >= 0) puts("3");',
    "changing a file": 'truncate("@SECRET@", 0); chmod("@SECRET@", 0777); rename("@SECRET@", "@MARK@");'
    ' unlink("@SECRET@");',
    "the network": 'sockaddr_in a{AF_INET, htons(@TCP@), {htonl(0x7f000001)}};'
    ' int s = socket(AF_INET, SOCK_STREAM, 0); if (connect(s, (sockaddr*)&a, sizeof a) == 0) puts("3");',
    "a socket of the machine": 'sockaddr_un a{AF_UNIX, "@STREAM@"}; int s = socket(AF_UNIX, SOCK_STREAM, 0);'
    ' if (connect(s, (sockaddr*)&a, sizeof a) == 0) puts("3");',
    "signals": "kill(@VICTIM@, 9); kill(@EXAMINER@, 9); kill(getppid(), 9); kill(-1, 9);"
    " syscall(234, @VICTIM@, @VICTIM@, 9);",
    "tracing": "ptrace(PTRACE_ATTACH, @VICTIM@, 0, 0); ptrace(PTRACE_ATTACH, getppid(), 0, 0);",
    "the server's descriptors": 'for (int n = 3; n < 300; ++n) if (write(n, "\\0\\0\\0\\3end", 7) > 0) puts("3");',
    "other limits": "rlimit all{RLIM_INFINITY, RLIM_INFINITY}; if (!setrlimit(RLIMIT_CPU, &all)) puts(\"3\");"
    " for (;;);",
    "ignoring the limit": "signal(SIGXCPU, SIG_IGN); signal(SIGTERM, SIG_IGN); for (;;);",
    "waiting": "for (;;) pause();",
    "memory": 'for (;;) memset(malloc(1 << 20), 1, 1 << 20);',
    "a deep stack": "volatile char big[1 << 26]; memset((char*)big, 1, sizeof big);",
    "a flood of output": "for (;;) puts(\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\");",
    "a flood of errors": 'for (int n = 0; n < 1 << 16; ++n) fputs("@SECRET@", stderr);',
    "rings and keys": 'if (syscall(425, 8, nullptr) >= 0 || syscall(321, 0, nullptr, 0) >= 0) puts("3");',
    "memory without a name": 'if (syscall(319, "x", 0) >= 0) puts("3");',
    "the right answer and a crash": 'puts("3"); fflush(stdout); abort();',
    "the right answer and another exit code": 'puts("3"); fflush(stdout); _exit(1);',
}  # fmt: skip

TEXTS = {
    "a secret in the text": '#include "@SECRET@"\nint main() { puts("3"); }',
    "a secret in the assembler": 'asm(".incbin \\"@SECRET@\\"\\n");\nint main() { puts("3"); }',
    "the environment in the text": '#include "/proc/self/environ"\nint main() {}',
    "no end of the text": '#include "/dev/zero"\nint main() {}',
    "noise as the text": '#include "/dev/urandom"\nint main() {}',
    "standard input as the text": '#include "/dev/stdin"\nint main() {}',
    "itself, twice": "#include __FILE__\n#include __FILE__\nint main() {}",
    "templates without end": "template <int N> struct A { using T = typename A<N + 1>::T; }; A<0>::T x; int main() {}",
    "templates that double": "template <int N> struct A { A<N - 1> a; typename A<N - 1>::template B<N> b;"
    " template <int M> struct B : A<M - 1> {}; }; A<400> x; int main() {}",
    "a constant that takes long": "constexpr long f(long n) { return n < 2 ? n : f(n - 1) + f(n - 2); }"
    " constexpr long x = f(60); int main() {}",
    "macros that double": "#define A x x\n"
    + "".join(f"#define {b} {a} {a}\n" for a, b in itertools.pairwise("ABCDEFGHIJKLMNOPQRSTUVWXYZa"))
    + "a\nint main() {}",
    "a huge array": "int x[1 << 29] = {1}; int main() {}",
    "a huge array by the assembler": 'asm(".data; .fill 0x7fffffffff, 1, 0");\nint main() {}',
    "a name of a gigabyte": '#define A(x) x##x\nint main() { puts("' + "x" * 200_000 + '"); }',
    "nesting": f"int main() {{ return {'(' * 60_000}1{')' * 60_000}; }}",
    "no main": "int f() { return 3; }",
    "another's main": '#include <stdio.h>\nextern "C" void _start() { puts("3"); }',
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_program_achieves_nothing(bench: Bench, name: str) -> None:
    bench.attack(ADD, f"{HEADERS}int main() {{ {PROGRAMS[name]} }}\n")


@pytest.mark.parametrize("name", TEXTS)
def test_text_achieves_nothing(bench: Bench, name: str) -> None:
    bench.attack(ADD, HEADERS + TEXTS[name])


CHEATS = {
    "exit": "exit(0);",
    "_exit": "_exit(0);",
    "quick_exit": "quick_exit(0);",
    "exit by the kernel": 'asm volatile("syscall" :: "a"(231), "D"(0)); for (;;);',
    "an exception": "throw 1;",
    "a signal": "signal(SIGILL, [](int) { _exit(0); }); signal(SIGABRT, [](int) { _exit(0); }); abort();",
    "exit at exit": "atexit([] { _exit(0); }); @WRONG@",
    "exit before main": "@WRONG@ }\nstruct E { E() { _exit(0); } } e; void unused() {",
    "an assert of its own": "@WRONG@ }\n#undef assert\n#define assert(...)\nvoid unused() {",
    "no asserts": "@WRONG@ }\n#define NDEBUG 1\nvoid unused() {",
    "a hidden assert": "@WRONG@ }\n%:def\\\nine/**/assert(...)\nvoid unused() {",
    "a kept assert": '@WRONG@ }\n#undef assert\n#define assert(...)\n#pragma push_macro("assert")\nvoid unused() {',
    "another main": "@WRONG@ }\nint main() { return 0; }\n#define main other_main\nvoid unused() {",
    "another meaning of main": "@WRONG@ }\n#define main(...) main() { return 0; } int other()\nvoid unused() {",
    "another meaning of if": "@WRONG@ }\n#define if(...) if (true)\nvoid unused() {",
    "another meaning of ==": "@WRONG@ }\n#define candidate 4 == 4 ||\nvoid unused() {",
    "a failure that is none": '@WRONG@ }\nextern "C" void __assert_fail(const char*, const char*, unsigned,'
    " const char*) noexcept { _exit(0); }\nvoid unused() {",
    "functions of the library": '@WRONG@ }\nextern "C" int dprintf(int, const char*, ...) { _exit(0); }\n'
    "void unused() {",
    "tests in a comment": "@WRONG@ }\n/*",
    "tests in a string": '@WRONG@ }\nconst char* all = R"x(',
    "tests in a class": "@WRONG@ }\nstruct Hidden {",
    "tests that are left out": "@WRONG@ }\n#if 0",
    "nothing": "",
    "no end": "for (;;);",
    "a jump": "static jmp_buf b; if (setjmp(b) == 0) longjmp(b, 1); _exit(0);",
}  # fmt: skip


@pytest.mark.parametrize("is_weak", [False, True], ids=["strong", "weak"])
@pytest.mark.parametrize("name", CHEATS)
def test_cheat_does_not_pass(bench: Bench, name: str, is_weak: bool) -> None:
    problem = WEAK if is_weak else DOUBLE
    wrong = "return Number{3};" if is_weak else "return {7, 7, 7};"
    source = CHEATS[name].replace("@WRONG@", wrong)
    extra = "#include <csetjmp>\n#include <csignal>\n#include <unistd.h>\n"
    prompted = msgspec.structs.replace(problem, prompt=extra + problem.prompt)
    bench.attack(prompted, source, is_weak=is_weak)


STRONG = {
    "an equality that is always true": "return {7}; }\nnamespace std {\n"
    "bool operator==(const vector<long>&, const vector<long>&) { return true; }\n}\nvoid unused() {",
    "answers before the calls": 'return {7}; }\nint early = [] { write(1, "2:0 2:0 ", 8); return 0; }();\n'
    "void unused() {",
    "answers of another length": 'write(ibft_wire::channel, "99999999999999999999:1 ", 23); _exit(0);',
    "answers that are no answers": 'write(ibft_wire::channel, "3:abc3:abc", 10); _exit(0);',
    "a gigantic answer": 'write(ibft_wire::channel, "22:9999999999999999999999 ", 25); _exit(0);',
    "a flood of answers": 'for (;;) write(ibft_wire::channel, "2:0 ", 4);',
    "looking for the tests": 'if (open("tests", 0) >= 0 || open("tests.cpp", 0) >= 0) write(1, "x", 1); return {7};',
}  # fmt: skip


@pytest.mark.parametrize("name", STRONG)
def test_answers_cannot_be_forged(bench: Bench, name: str) -> None:
    assert not bench.attack(DOUBLE, STRONG[name]).is_weak


def test_the_known_cheat_against_a_weak_verdict(bench: Bench) -> None:
    """What `weak_program` says it does not stop: counted apart, for this reason."""
    source = "struct Yes { bool operator==(long) { return true; } };\nstruct Same { Yes value; };\n"
    source += "Same twice(Number) { return {}; }\n"
    prompt = WEAK.prompt.partition("Number twice")[0]
    problem = msgspec.structs.replace(WEAK, prompt=prompt)
    outcome = bench.judge(problem, source, is_weak=True)
    assert (outcome.status, outcome.is_weak) == ("passed", True)
