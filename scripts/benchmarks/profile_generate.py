"""Where the time of a step goes when a bundled model generates: the functions that take most of it.

python scripts/benchmarks/profile_generate.py gan
python scripts/benchmarks/profile_generate.py transformer --texts 64
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time

import torch

from aigc_text import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backend", choices=("rnn", "transformer", "vae", "gan"))
    parser.add_argument("--texts", type=int, default=64, help="at once")
    parser.add_argument("--rows", type=int, default=14, help="of the table")
    given = parser.parse_args()
    torch.set_num_threads(1)
    backend = load(given.backend, f"bundled:{BUNDLED[given.backend]}")
    how = {"num_return_sequences": given.texts, "seed": 1, "max_new_tokens": 60}
    list(backend.generate([""], **how))
    started = time.perf_counter()
    found = list(backend.generate([""], **how))
    seconds, steps = time.perf_counter() - started, max(c.tokens for c in found)
    each = seconds / sum(c.tokens for c in found)
    print(f"{steps} steps, {1e3 * seconds / steps:.2f} ms each; {1e6 * each:.0f} µs a token")
    profile = cProfile.Profile()
    profile.runcall(lambda: list(backend.generate([""], **how)))
    pstats.Stats(profile).sort_stats("tottime").print_stats(given.rows)


BUNDLED = {
    "rnn": "rnn-captions",
    "transformer": "transformer-shakespeare",
    "vae": "vae-captions",
    "gan": "gan-captions",
}

if __name__ == "__main__":
    main()
