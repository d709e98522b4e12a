"""Bytes that a candidate writes to the channel of its answers, past the program that serves it."""

from __future__ import annotations

import json

from hostile.arena import Attack

__all__ = ["ATTACKS"]

_REFUSED = frozenset({"cheating_refused"})
_WRITE = """
import json, os, struct, time
def frame(text):
    data = text if isinstance(text, bytes) else text.encode()
    return struct.pack('!I', len(data)) + data
def write(data):
    data = memoryview(data)
    while data: data = data[os.write(3, data):]
def leave():
    while os.read(3, 4096): pass
    os._exit(0)
"""


def _answer(name: str, text: str, tests: str = "", statuses: frozenset[str] = _REFUSED) -> Attack:
    """A call that is answered with `text` in a frame of its own."""
    source = f"{_WRITE}\ndef f(x):\n    write(frame({text!r}))\n    leave()\n"
    return Attack("forgery", name, source, *([tests] if tests else []), statuses=statuses)


def _free(name: str, source: str, statuses: frozenset[str] = frozenset(), **more: bool) -> Attack:
    return Attack("forgery", name, _WRITE + source, statuses=statuses, **more)


_FAILED = frozenset({"failed"})

ATTACKS = (
    _free("answers in advance", "write(frame('[\"ok\",null]') + frame('[\"ok\",true]') * 100)\ndef f(x): return 0\n"),
    _free("only answers in advance", 'write(frame(\'["ok",{"h":0}]\') * 3 + frame(\'["ok",0]\') * 9)\nos._exit(0)\n'),
    _free("the words of a verdict", "write(frame('\"passed\"') * 9)\nleave()\n", _REFUSED),
    _free("an outcome", 'write(frame(\'{"status":"passed","message":"passed"}\'))\n', _REFUSED),
    _free("set up once more", "write(frame('\"set up\"'))\n", _REFUSED),
    _free(
        "the end's answer",
        'write(frame(\'{"exit_code":0,"cpu_time_s":0,"wall_time_s":0,"timed_out":""}\'))\n',
        _REFUSED,
    ),
    _free("no frame at all", "write(b'passed')\nos._exit(0)\n"),
    _free("a header of 4 GiB", "write(b'\\xff' * 4)\nleave()\n", _REFUSED),
    _free("a header and no more", "write(b'\\0\\0\\0\\x09[')\nos._exit(0)\n", _FAILED),
    _free("a header and then silence", "write(b'\\0\\0\\0\\x09[')\ntime.sleep(60)\n", frozenset({"timeout_wall"})),
    _free(
        "bytes that trickle",
        "data = frame('[\"ok\",' + ' ' * 99 + '4]')\n"
        "def f(x):\n    for i in range(len(data)):\n        write(data[i:i + 1])\n        time.sleep(0.05)\n",
        frozenset({"timeout_wall"}),
    ),
    _free("an empty frame", "write(frame(''))\n", _REFUSED),
    _free("bytes that are no text", "write(frame(bytes(range(256))))\n", _REFUSED),
    _free("half a channel", "import socket\nsocket.socket(fileno=3).shutdown(socket.SHUT_WR)\ntime.sleep(60)\n"),
    _free("no channel", "os.close(3)\ntime.sleep(60)\n"),
    _free("a channel that is never read", "def f(x):\n    time.sleep(60)\n", frozenset({"timeout_wall"})),
    _free("a flood", "data = frame('[\"ok\",0]') * 100_000\nwhile True: write(data)\n"),
    _free(
        "a descriptor in the answer",
        "import array, socket\n"
        "s = socket.socket(fileno=os.dup(3))\ndef f(x):\n"
        "    socket.send_fds(s, [frame('[\"ok\",0]')], [0, 1, 2])\n    leave()\n",
    ),
    _answer("an unknown tag", '["ok",{"z":1}]'),
    _answer("two tags", '["ok",{"t":[],"i":"0x4"}]'),
    _answer("no tag", '["ok",{}]'),
    _answer("a negative handle", '["ok",{"h":-1}]'),
    _answer("a handle that is no number", '["ok",{"h":true}]'),
    _answer("a handle that was never given", '["ok",{"h":1000000000000}]', statuses=_FAILED),
    _answer("an answer that is no list", '{"ok":4}'),
    _answer("an answer without a value", '["ok"]'),
    _answer("an answer of an unknown kind", '["passed",4]'),
    _answer("an answer with too much", '["ok",4,4]'),
    _answer("an error without names", '["raised",[],"","",true]', statuses=_FAILED),
    _answer("an error with names that are none", '["raised",[1,null,[]],"","",true]', statuses=_FAILED),
    _answer("an error of the wrong shape", '["raised","KeyError"]'),
    _answer("an error that is neither all nor not", '["raised",["KeyError"],"","",1]'),
    _answer("a value that is too large, it says", '["large","x"]', statuses=_FAILED),
    _answer("arguments that were changed, it says", '["ok",[4,{"t":[2]},{"d":[]}]]', statuses=_FAILED),
    _answer("a syntax error in the middle", '["syntax","no"]', statuses=_REFUSED | {"syntax_error"}),
    _answer("deep nesting", '["ok",' + "[" * 50_000 + "]" * 50_000 + "]"),
    _answer("nesting just too deep", '["ok",' + "[" * 120 + "]" * 120 + "]"),
    _answer("an integer of many digits", '["ok",' + "9" * 100_000 + "]"),
    _answer("an integer that is not hexadecimal", '["ok",{"i":"four"}]'),
    _answer("not a number", '["ok",NaN]', statuses=_FAILED),
    _answer("infinity", '["ok",-Infinity]', statuses=_FAILED),
    _answer("a fraction by zero", '["ok",{"F":["0x1","0x0"]}]'),
    _answer("a complex number without parts", '["ok",{"c":[]}]', statuses=_FAILED),
    _answer("a complex number of an object", '["ok",{"c":{"a":1}}]'),
    _answer("a date that is none", '["ok",{"Y":"yesterday"}]'),
    _answer("an unhashable key", '["ok",{"d":[[[],4]]}]'),
    _answer("pairs that are none", '["ok",{"d":[4]}]'),
    _answer("a set of sets", '["ok",{"s":[{"s":[]}]}]'),
    _answer("a range of nothing", '["ok",{"r":[]}]'),
    _answer("a range without end", '["ok",{"r":["0x0","0x7fffffffffffffff","0x1"]}]', statuses=_FAILED),
    _answer("a slice", '["ok",{"l":[1,2,3]}]', statuses=_FAILED),
    _answer("the ellipsis", '["ok",{"e":0}]', statuses=_FAILED),
    _answer("an array of true", '["ok",{"a":["b",[true]]}]'),
    _answer("an array of nothing", '["ok",{"a":["i",[]]}]'),
    _answer("an array of objects", '["ok",{"a":["O",[4]]}]'),
    _answer("an array of long texts", json.dumps(["ok", {"a": ["U", ["x" * 1000, *[""] * 20_000]]}])),
    *(
        _answer(f"the exception {name}", json.dumps(["raised", [name], "m", "t", True]), statuses=_FAILED)
        for name in ("SystemExit", "KeyboardInterrupt", "GeneratorExit", "StopIteration", "BaseException", "_Lost")
    ),
    _answer("the exception _OutOfTime", '["raised",["_OutOfTime"],"","",true]', statuses=_FAILED),
    _answer("an exception that is no exception", '["raised",["print","type","exec"],"","",true]', statuses=_FAILED),
    _answer(
        "terminal escapes in an error",
        json.dumps(["raised", ["A\x1b[2J\n"], "\x1b[31mpassed\x07", "", True]),
        statuses=_FAILED,
    ),
    _free("a json module that lies", "json.dumps = lambda *_, **__: '[\"ok\",4]'\ndef f(x): return 0\n"),
    _free(
        "a channel module that lies",
        "import sys\nfor name, module in list(sys.modules.items()):\n"
        "    if name.endswith(('codec', 'messages', 'candidate')):\n        module.encode = lambda *_, **__: True\n"
        "        module.send = lambda *_, **__: None\n        module.decode = lambda *_, **__: 4\n"
        "def f(x): return 0\n",
        statuses=frozenset({"timeout_wall", "failed", "cheating_refused"}),
    ),
    _free(
        "a socket class that lies",
        "import socket\nsocket.socket.sendall = lambda *_: None\nsocket.socket.recv = lambda *_: b''\n"
        "def f(x): return 0\n",
    ),
    Attack(
        "forgery",
        "names that were not asked for",
        _WRITE + 'write(frame(\'["ok",{"d":[["f",{"h":0}],["abs",{"h":1}],["expected",{"d":[[2,0]]}],'
        '["__builtins__",{"h":2}]]}]\'))\nwhile True:\n'
        "    os.read(3, struct.unpack('!I', os.read(3, 4))[0])\n    write(frame('[\"ok\",0]'))\n",
        "expected = {2: 4}\nassert abs(f(2) - expected[2]) < 1e-6\n",
        statuses=_FAILED,
    ),
    Attack(
        "forgery",
        "the operations of the server, replaced",
        "import sys\nfor module in list(sys.modules.values()):\n    found = getattr(module, '_OPERATIONS', None)\n"
        "    if isinstance(found, dict): found['run_inside'] = lambda *given: given[-1]\n"
        "def f(x): return 0\n",
        passes_inside=True,
    ),
    Attack(
        "forgery",
        "the token of the tests, read from a frame",
        _WRITE + "import sys\ndef f(x):\n    here = sys._getframe()\n    while here:\n"
        "        if 'token' in here.f_locals: write(frame(json.dumps(['ok', here.f_locals['token']]))); os._exit(0)\n"
        "        here = here.f_back\n    return 0\n",
        passes_inside=True,
    ),
)
