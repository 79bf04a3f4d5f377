"""Steps per second of l2f (PyPI) and of this simulator, side by side in one run, with their ratio.

    python3 -m venv VENV && VENV/bin/pip install l2f numpy
    cargo build --release -p spikewing-quad --example steps_per_second
    VENV/bin/python crates/quad/benches/peers/l2f_steps.py [--threads 1,2] [--rounds 15]

Both get the same number of threads and the same vehicle (l2f's default, our `l2f2`). Rounds alternate between the two,
so that a busy machine slows both; the ratio printed is that of the medians over the rounds, and of the best slices.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]


def peer_child(work, vehicles, milliseconds):
    """Measures l2f in this process; prints what steps_per_second prints."""
    import l2f
    import numpy as np

    device = l2f.Device()
    if work == "one":
        env, parameters, state, following = l2f.Environment(), l2f.Parameters(), l2f.State(), l2f.State()
        rng, module, steps = l2f.Rng(), l2f, 1
        action = [0.6122] * 4
    else:
        module = getattr(l2f, f"vector{vehicles}")
        env, parameters = module.VectorEnvironment(), module.VectorParameters()
        state, following, rng = module.VectorState(), module.VectorState(), module.VectorRng()
        steps = vehicles
        action = np.full((vehicles, 4), 0.6122, dtype=np.float32)
    module.initialize_rng(device, rng, 0)
    module.initialize_environment(device, env)
    module.initial_parameters(device, env, parameters)
    module.initial_state(device, env, parameters, state)
    module.initial_state(device, env, parameters, following)
    observation = np.zeros((vehicles, env.OBSERVATION_DIM), dtype=np.float32) if work == "observe" else None
    step = module.step

    def once():
        # Back and forth between two states: l2f does not step in place.
        step(device, env, parameters, state, action, following, rng)
        if observation is not None:
            module.observe(device, env, parameters, following, observation, rng)
        step(device, env, parameters, following, action, state, rng)
        if observation is not None:
            module.observe(device, env, parameters, state, observation, rng)

    repetitions = 1
    while True:
        start = time.perf_counter()
        for _ in range(repetitions):
            once()
        if time.perf_counter() - start >= 1e-3:
            break
        repetitions *= 2
    rates = []
    end = time.perf_counter() + milliseconds / 1000
    while not rates or time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(repetitions):
            once()
        rates.append(2 * repetitions * steps / (time.perf_counter() - start))
    print(json.dumps({"median": statistics.median(rates), "best": max(rates)}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", default="1,2", help="thread counts to measure, e.g. 1,2")
    parser.add_argument("--rounds", type=int, default=15, help="alternations between the two")
    parser.add_argument("--milliseconds", type=int, default=200, help="of each measurement")
    parser.add_argument("--peer", nargs=2, metavar=("WORK", "VEHICLES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        return peer_child(options.peer[0], int(options.peer[1]), options.milliseconds)

    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    ours = target / "release" / "examples" / "steps_per_second"
    if not ours.is_file():
        sys.exit(f"{ours} is not there: cargo build --release -p spikewing-quad --example steps_per_second")
    try:
        import l2f  # noqa: F401
    except ImportError:
        sys.exit("l2f is not installed here: pip install l2f numpy, in a virtual environment")

    for threads in [int(t) for t in options.threads.split(",")]:
        # l2f spins between parallel loops unless told otherwise, which collapses on a busy machine.
        environment = dict(
            os.environ, OMP_NUM_THREADS=str(threads), OMP_WAIT_POLICY="PASSIVE", RAYON_NUM_THREADS=str(threads)
        )

        def measure(command):
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            if done.returncode != 0:
                sys.exit(f"{' '.join(map(str, command))}: {done.stderr}")
            return json.loads(done.stdout)

        for work, vehicles in [("one", 1), ("step", 1024), ("observe", 1024)]:
            peers, own = [], []
            for _ in range(options.rounds):
                peers.append(
                    measure(
                        [sys.executable, __file__, "--milliseconds", str(options.milliseconds)]
                        + ["--peer", work, str(vehicles)]
                    )
                )
                own.append(measure([ours, work, str(vehicles), str(options.milliseconds)]))
            median = lambda runs: statistics.median(r["median"] for r in runs) / 1e6  # noqa: E731
            best = lambda runs: max(r["best"] for r in runs) / 1e6  # noqa: E731
            print(
                f"{threads} thread(s), {work:7} {vehicles:5}: "
                f"l2f {median(peers):6.2f} (best {best(peers):6.2f}) M steps/s, "
                f"ours {median(own):6.2f} (best {best(own):6.2f}), "
                f"ratio {median(own) / median(peers):5.1f} (best {best(own) / best(peers):5.1f}), "
                f"load {os.getloadavg()[0]:.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
