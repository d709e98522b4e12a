"""Reaching other programs through sockets. The baits listen."""

from __future__ import annotations

from hostile.arena import Attack

__all__ = ["ATTACKS"]


def _reach(name: str, source: str, opened_by: tuple[str, ...] = ()) -> Attack:
    return Attack("network", name, f"from socket import *\nimport os\n{source}\n", opened_by=opened_by)


_PAIR = "a, b = socketpair(AF_UNIX, {kind})\n"
_SECCOMP = ("seccomp",)

ATTACKS = (
    _reach("loopback TCP", "create_connection(('127.0.0.1', @TCP@), 1).send(b'x')"),
    _reach("loopback UDP", "socket(AF_INET, SOCK_DGRAM).sendto(b'x', ('127.0.0.1', @UDP@))", _SECCOMP),
    _reach(
        "loopback UDP by connecting",
        "s = socket(AF_INET, SOCK_DGRAM)\ns.connect(('127.0.0.1', @UDP@))\ns.send(b'x')",
        _SECCOMP,
    ),
    _reach("TCP fast open", "socket().sendto(b'x', 0x20000000, ('127.0.0.1', @TCP@))", opened_by=("seccomp",)),
    _reach(
        "multipath TCP",
        "s = socket(AF_INET, SOCK_STREAM, 262)\ns.settimeout(1)\ns.connect(('127.0.0.1', @TCP@))",
        _SECCOMP,
    ),
    _reach("a Unix stream socket", "socket(AF_UNIX).connect('@STREAM@')", _SECCOMP),
    _reach("a Unix datagram socket", "socket(AF_UNIX, SOCK_DGRAM).sendto(b'x', '@DATAGRAM@')", _SECCOMP),
    _reach("an abstract stream socket", "socket(AF_UNIX).connect('\\0@ABSTRACT_STREAM@')"),
    _reach("an abstract datagram socket", "socket(AF_UNIX, SOCK_DGRAM).sendto(b'x', '\\0@ABSTRACT_DATAGRAM@')"),
    _reach("a datagram from a socket pair", _PAIR.format(kind="SOCK_DGRAM") + "a.sendto(b'x', '@DATAGRAM@')", _SECCOMP),
    _reach(
        "a message from a socket pair",
        _PAIR.format(kind="SOCK_DGRAM") + "a.sendmsg([b'x'], [], 0, '@DATAGRAM@')",
        _SECCOMP,
    ),
    _reach(
        "a datagram from a raw socket pair", _PAIR.format(kind="SOCK_RAW") + "a.sendto(b'x', '@DATAGRAM@')", _SECCOMP
    ),
    _reach(
        "an abstract datagram from a socket pair",
        _PAIR.format(kind="SOCK_DGRAM") + "a.sendto(b'x', '\\0@ABSTRACT_DATAGRAM@')",
    ),
    _reach(
        "a datagram from a packet socket pair", _PAIR.format(kind="SOCK_SEQPACKET") + "a.sendto(b'x', '@DATAGRAM@')"
    ),
    _reach("an address from its own channel", "s = socket(fileno=os.dup(3))\ns.sendto(b'x', '@DATAGRAM@')"),
    _reach("its channel connected anew", "s = socket(fileno=os.dup(3))\ns.connect('@STREAM@')"),
    _reach("a listening socket", "s = socket()\ns.bind(('127.0.0.1', 0))\ns.listen()\neffect('listening')"),
    _reach("a listening Unix socket", "s = socket(AF_UNIX)\ns.bind('own')\ns.listen()\neffect('listening')"),
    _reach("a raw socket", "socket(AF_INET, SOCK_RAW, IPPROTO_ICMP)\neffect('raw')"),
    _reach("a packet socket", "socket(AF_PACKET, SOCK_RAW)\neffect('packets')"),
    _reach("netlink", "socket(AF_NETLINK, SOCK_RAW, 0)\neffect('netlink')", _SECCOMP),
    _reach("a socket to the hypervisor", "socket(AF_VSOCK, SOCK_STREAM)\neffect('vsock')"),
    _reach("the kernel's ciphers", "socket(AF_ALG, SOCK_SEQPACKET)\neffect('ciphers')"),
    _reach(
        "any family of sockets",
        "for family in range(46):\n    for kind in (1, 2, 3, 5):\n        try: socket(family, kind)\n"
        "        except OSError: continue\n        effect(f'family {family}')",
        _SECCOMP,
    ),
    _reach(
        "any family of socket pairs",
        "for family in range(46):\n    for kind in (1, 2, 3, 5):\n        if family == AF_UNIX: continue\n"
        "        try: socketpair(family, kind)\n        except OSError: continue\n        effect(f'family {family}')",
    ),
    _reach("a name server", "getaddrinfo('example.invalid', 80)\neffect('a name')"),
    _reach("a web page", "import urllib.request\nurllib.request.urlopen('http://127.0.0.1:@TCP@', timeout=1)"),
    _reach("the shell's network device", "os.system('echo x > /dev/tcp/127.0.0.1/@TCP@')"),
    _reach("the network's interfaces", "effect(if_nameindex())", _SECCOMP),
)
