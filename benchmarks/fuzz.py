"""Random and adversarial bytes for everything that reads what a model or its program wrote.

    python benchmarks/fuzz.py [--seconds 600] [--seed 0]

Takes turns, each on its share of the time:

    channel    a candidate that answers with mutated answers, random JSON or noise: no pass, no crash, no overrun
    reader     files of samples, mutated: samples, or an error for the user; nothing else
    extractor  Verilog completions, mutated: a design or none, in time that grows with the text
    codec      random values there and back; random data refused with CodecError

The seed and the number of the round are shown with a finding, so it can be repeated. Exit code 1 if there is any.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from fuzz_targets import Channel, Codec, Extractor, Finding, Reader


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        channel = Channel()
        targets: dict[str, Callable[[random.Random], str]] = {
            "channel": channel, "reader": Reader(Path(folder)), "extractor": Extractor(), "codec": Codec(),
        }  # fmt: skip
        num_findings = 0
        with channel.sandbox:
            for name, target in targets.items():
                num_findings += fuzz(name, target, options.seed, options.seconds / len(targets))
    raise SystemExit(1 if num_findings else 0)


def fuzz(name: str, target: Callable[[random.Random], str], seed: int, seconds: float) -> int:
    counts: Counter[str] = Counter()
    num_findings = 0
    longest_s = 0.0
    deadline = time.monotonic() + seconds
    number = 0
    while time.monotonic() < deadline and num_findings < 20:
        number += 1
        start = time.monotonic()
        try:
            counts[target(random.Random(f"{seed} {name} {number}"))] += 1
        except Exception as error:
            num_findings += 1
            print(
                f"FINDING {name}, seed {seed}, round {number}: {type(error).__name__}: {str(error)[:1000]}", flush=True
            )
            if not isinstance(error, Finding):
                traceback.print_exc()
        longest_s = max(longest_s, time.monotonic() - start)
    ends = ", ".join(f"{count} {end}" for end, count in counts.most_common())
    print(f"{name}: {number} rounds, {num_findings} findings, longest {longest_s:.2f} s ({ends})", flush=True)
    return num_findings


if __name__ == "__main__":
    main()
