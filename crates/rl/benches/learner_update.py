"""The whole TD3BC+JSRL learner update, in PyTorch + snntorch and here, side by side in one run.

    python3 -m venv VENV && VENV/bin/pip install torch snntorch
    cargo build --release -p spikewing-rl --example update_time
    OMP_WAIT_POLICY=PASSIVE VENV/bin/python crates/rl/benches/learner_update.py

The update is that of section 4 of the paper: 256 sequences of 100 steps, the first 50 of which only warm the network up; two
critics (150-128-128-1 by default) with targets, learned from every step after the warm-up; the spiking actor
(18-256-128-4) from the first critic's value and the cloning term; Adam for all three; soft updates of all three targets.

The peer is written as a good user would: layers without state run over all steps at once, no loop over samples, histories
by a strided view and one gather, fused Adam, no gradients where none are needed. The loop over time is snntorch's way.
Rounds of both alternate. Wall clock is what counts on a quiet machine; the processor time also says something on a
busy one.
"""

import argparse
import json
import os
import statistics
import subprocess
import time

import snntorch
import torch
from torch import nn

OBSERVATION, HISTORY, ACTION, WARMUP, LENGTH = 18, 32, 4, 50, 100


class Actor(nn.Module):
    def __init__(self):
        super().__init__()
        surrogate = snntorch.surrogate.fast_sigmoid(slope=2)

        def lif(n):
            return snntorch.Leaky(
                beta=torch.rand(n), threshold=torch.rand(n), learn_beta=True, learn_threshold=True,
                spike_grad=surrogate, reset_mechanism="subtract",
            )

        self.fc1, self.fc2, self.fc3 = nn.Linear(OBSERVATION, 256), nn.Linear(256, 128), nn.Linear(128, ACTION)
        self.lif1, self.lif2 = lif(256), lif(128)

    def forward(self, x):
        """[steps, batch, 18] to [steps, batch, 4]."""
        currents = self.fc1(x)
        membrane1, membrane2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        spikes = []
        for current in currents:
            spike, membrane1 = self.lif1(current, membrane1)
            spike, membrane2 = self.lif2(self.fc2(spike), membrane2)
            spikes.append(spike)
        return torch.tanh(self.fc3(torch.stack(spikes)))


def critic(hidden):
    widths = [OBSERVATION + HISTORY * ACTION + ACTION, *hidden]
    layers = []
    for a, b in zip(widths, widths[1:]):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 1))


class Learner:
    """State of the learner, and a replay buffer of whole flights."""

    def __init__(self, hidden, sequences, flights=200, steps=500):
        self.sequences = sequences
        self.actor, self.target_actor = Actor(), Actor()
        self.critics = nn.ModuleList([critic(hidden), critic(hidden)])
        self.targets = nn.ModuleList([critic(hidden), critic(hidden)])
        self.target_actor.load_state_dict(self.actor.state_dict())
        self.targets.load_state_dict(self.critics.state_dict())
        self.pairs = [
            (list(self.target_actor.parameters()), list(self.actor.parameters())),
            (list(self.targets.parameters()), list(self.critics.parameters())),
        ]
        self.actor_adam = torch.optim.Adam(self.actor.parameters(), lr=1e-3, fused=True)
        self.critic_adam = torch.optim.Adam(self.critics.parameters(), lr=3e-4, fused=True)
        self.observations = torch.randn(flights, steps + 1, OBSERVATION) * 0.3
        self.actions = torch.rand(flights, steps, ACTION) * 1.4 - 0.5
        # Before a flight's start the history is filled with its first action.
        padded = torch.cat([self.actions[:, :1].expand(-1, HISTORY, -1), self.actions], 1)
        self.history = padded.unfold(1, HISTORY, 1).transpose(2, 3)  # a view: [flights, steps + 1, 32, 4]
        self.starts = torch.arange(0, steps - LENGTH + 1, 50)
        self.noise = torch.tensor([0.05] * 3 + [0.001] * 9 + [0.1] * 3 + [0.2] * 3)

    def reward(self, observation, action):
        p, r = observation[..., :3], observation[..., 3:12]
        w2 = ((1 + r[..., 0] + r[..., 4] + r[..., 8]) / 4).clamp(0, 1)
        v = observation[..., 12:15]
        effort = ((action + 1) / 2 - 0.667).square().sum(-1)
        return 1 - p.square().sum(-1) - 0.01 * v.square().sum(-1) - 0.25 * (1 - w2) - 0.14 * effort

    def update(self):
        n = self.sequences
        flight = torch.randint(len(self.observations), (n, 1))
        start = self.starts[torch.randint(len(self.starts), (n, 1))]
        t = start + torch.arange(LENGTH + 1)  # [n, 101]
        observation = self.observations[flight, t]
        action = self.actions[flight, t[:, :-1]]
        seen = observation + torch.rand(n, 1, 1) * self.noise * torch.randn_like(observation)
        seen = seen.transpose(0, 1).contiguous()
        privileged = torch.cat([observation[:, WARMUP:], self.history[flight, t[:, WARMUP:]].flatten(2)], -1)
        now, following = privileged[:, :-1].flatten(0, 1), privileged[:, 1:].flatten(0, 1)
        done_by = action[:, WARMUP:].flatten(0, 1)
        with torch.no_grad():
            target = self.target_actor(seen)[WARMUP + 1 :].transpose(0, 1).flatten(0, 1)
            noise = (0.2 * torch.randn_like(target)).clamp(-0.5, 0.5)
            inputs = torch.cat([following, (target + noise).clamp(-1, 1)], -1)
            q = torch.minimum(self.targets[0](inputs), self.targets[1](inputs)).squeeze(-1)
            y = 0.1 * self.reward(observation[:, WARMUP + 1 :], action[:, WARMUP:]).flatten() + 0.99 * q
        inputs = torch.cat([now, done_by], -1)
        loss = sum((c(inputs).squeeze(-1) - y).square().mean() for c in self.critics)
        self.critic_adam.zero_grad()
        loss.backward()
        self.critic_adam.step()

        for p in self.critics[0].parameters():
            p.requires_grad_(False)
        policy = self.actor(seen[:LENGTH])[WARMUP:].transpose(0, 1).flatten(0, 1)
        q = self.critics[0](torch.cat([now, policy], -1))
        bc = (policy - done_by).square().sum(-1).mean()
        actor_loss = -2.0 / q.abs().mean().detach() * q.mean() + 0.2 * bc
        self.actor_adam.zero_grad()
        actor_loss.backward()
        nn.utils.clip_grad_norm_(self.actor.parameters(), 1.0)
        self.actor_adam.step()
        for p in self.critics[0].parameters():
            p.requires_grad_(True)
        with torch.no_grad():
            for target, source in self.pairs:
                torch._foreach_lerp_(target, source, 0.01)
        return loss.item(), actor_loss.item()


def timed(work, repetitions):
    wall, cpu = [], time.process_time()
    for _ in range(repetitions):
        start = time.perf_counter()
        work()
        wall.append(1e3 * (time.perf_counter() - start))
    return wall, 1e3 * (time.process_time() - cpu) / repetitions


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sequences", type=int, default=256)
    parser.add_argument("--hidden", type=int, nargs="+", default=[128, 128], help="of the critics")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repetitions", type=int, default=5, help="in a round")
    parser.add_argument("--ours", default="target/release/examples/update_time")
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(1)
    peer = Learner(a.hidden, a.sequences)
    timed(peer.update, 2)
    shape = json.dumps({"hidden": a.hidden, "backend": "native"})
    command = [a.ours, str(a.sequences), str(a.repetitions), f"critic={shape}"]
    environment = {**os.environ, "RAYON_NUM_THREADS": str(a.threads)}
    peer_wall, peer_cpu, our_wall, our_cpu = [], [], [], []
    for _ in range(a.rounds):
        wall, cpu = timed(peer.update, a.repetitions)
        peer_wall.append(statistics.median(wall))
        peer_cpu.append(cpu)
        ours = json.loads(subprocess.run(command, check=True, capture_output=True, env=environment).stdout)
        our_wall.append(ours["median_ms"])
        our_cpu.append(ours["cpu_ms"])
    load = open("/proc/loadavg").read().split()[0] if os.path.exists("/proc/loadavg") else "?"
    result = {
        "torch": torch.__version__, "snntorch": snntorch.__version__, "threads": a.threads, "load": load,
        "sequences": a.sequences, "critic_hidden": a.hidden,
        "peer_ms": min(peer_wall), "ours_ms": min(our_wall), "peer_cpu_ms": min(peer_cpu), "ours_cpu_ms": min(our_cpu),
        "ratio": min(peer_wall) / min(our_wall),
        "ratio_median": statistics.median(peer_wall) / statistics.median(our_wall),
        "ratio_cpu": min(peer_cpu) / min(our_cpu),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
