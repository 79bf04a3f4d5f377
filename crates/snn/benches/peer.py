"""Times the published network in snntorch + PyTorch and in this crate, in turns, and prints the ratios.

    python3 -m venv VENV && VENV/bin/pip install torch snntorch
    VENV/bin/python crates/snn/benches/peer.py

One training update: 18-256-128-4, a batch of sequences, forward, backward through time (loss from the middle on), Adam.
One inference step: batch 1, state carried. Rounds alternate between the two, so that whatever else the machine does meets both.
"""

import argparse
import json
import os
import statistics
import subprocess
import time

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads slow each other down

import snntorch as snn
import torch
from snntorch import surrogate


class Student(torch.nn.Module):
    def __init__(self, widths):
        super().__init__()
        self.linear = torch.nn.ModuleList(torch.nn.Linear(a, b) for a, b in zip(widths, widths[1:]))
        self.lif = torch.nn.ModuleList(
            snn.Leaky(
                beta=torch.rand(n),
                threshold=torch.rand(n),
                learn_beta=True,
                learn_threshold=True,
                spike_grad=surrogate.fast_sigmoid(slope=10),
                reset_mechanism="subtract",
            )
            for n in widths[1:-1]
        )

    def rest(self):
        return [lif.init_leaky() for lif in self.lif]

    def step(self, x, membranes):
        after = []
        for linear, lif, membrane in zip(self.linear, self.lif, membranes):
            x, membrane = lif(linear(x), membrane)
            after.append(membrane)
        return torch.tanh(self.linear[-1](x)), after


def peer_update(student, optimiser, sequence):
    steps = sequence.shape[0]
    start, cpu = time.perf_counter(), time.process_time()
    membranes, actions = student.rest(), []
    for x in sequence:
        action, membranes = student.step(x, membranes)
        actions.append(action)
    loss = torch.stack(actions[steps // 2 :]).square().sum(-1).mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return 1e3 * (time.perf_counter() - start), 1e3 * (time.process_time() - cpu)


def peer_steps(student, count):
    observations, times = torch.rand(64, 1, 18) * 2 - 1, []
    with torch.inference_mode():
        membranes = student.rest()
        for i in range(count + 50):
            start = time.perf_counter()
            _, membranes = student.step(observations[i % 64], membranes)
            times.append(1e6 * (time.perf_counter() - start))
    return times[50:]


def ours(arguments, repeats, environment):
    command = ["cargo", "run", "-q", "--release", "-p", "spikewing-snn", "--example", "step_time", "--", "--json"]
    command += [str(arguments.batch), str(arguments.steps), str(repeats)]
    return json.loads(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def percentile(times, share):
    return sorted(times)[min(int(share * len(times)), len(times) - 1)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.manual_seed(1)
    torch.set_num_threads(arguments.threads)
    environment = dict(os.environ, RAYON_NUM_THREADS=str(arguments.threads))
    student = Student([18, 256, 128, 4])
    optimiser = torch.optim.Adam(student.parameters(), lr=1e-3)
    sequence = torch.rand(arguments.steps, arguments.batch, 18) * 2 - 1
    ours(arguments, 1, environment)  # builds
    peer_update(student, optimiser, sequence)
    peer, peer_cpu, peer_step, mine = [], [], [], []
    for round in range(arguments.rounds):
        for _ in range(3):
            wall, cpu = peer_update(student, optimiser, sequence)
            peer.append(wall)
            peer_cpu.append(cpu)
        torch.set_num_threads(1)  # faster for a batch of one
        peer_step += peer_steps(student, 500)
        torch.set_num_threads(arguments.threads)
        mine.append(ours(arguments, 10, environment))

    def row(name, theirs, mine, unit):
        print(f"{name:42}{theirs:12.2f}{mine:12.2f} {unit:3}{theirs / mine:8.1f}x")

    update, step = [m["update"] for m in mine], [m["step"] for m in mine]
    print(f"{arguments.threads} threads, {os.getloadavg()[0]:.1f} processes waiting; torch {torch.__version__}, snntorch {snn.__version__}")
    print(f"{'':42}{'snntorch':>12}{'spikewing':>12} {'':3}{'ratio':>9}")
    name = f"update, {arguments.batch} x {arguments.steps}"
    row(f"{name}, median", statistics.median(peer), statistics.median(u["median_ms"] for u in update), "ms")
    row(f"{name}, best", min(peer), min(u["best_ms"] for u in update), "ms")
    row(f"{name}, processor time", min(peer_cpu), min(u["cpu_ms"] for u in update), "ms")
    row("inference step, median", percentile(peer_step, 0.5), statistics.median(s["median_us"] for s in step), "us")
    row("inference step, p99", percentile(peer_step, 0.99), statistics.median(s["p99_us"] for s in step), "us")


if __name__ == "__main__":
    main()
