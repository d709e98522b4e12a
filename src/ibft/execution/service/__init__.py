"""Judging over HTTP: the service (`ibft serve judge`), and the pool that is its client.

Whoever may ask it to judge may run programs on its machine: a problem's tests run outside of the sandbox. Hence the
token, which is needed wherever the service listens on more than this machine.
"""
