"""A flight of the suite as processes, watched from outside: what the vehicle did, who flew, who is alive."""

import collections
import hashlib
import json
import math
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import policies
from ros import LATCHED, RELIABLE, ROOT, Bus, default

BINARY = os.environ.get("SPIKEWING", str(ROOT / "target/release/spikewing"))
OUT = Path(os.environ.get("OUT", ROOT / "target/faults"))
STATES = ["DISARMED", "ARMING", "GUIDE", "STUDENT", "RECOVER", "LAND", "HOLD"]
# A crash: tilt beyond this, or the ground reached faster than this.
TILT_RAD, IMPACT_M_S = math.pi / 2, 1.0
HERE = ROOT / ".ci/faults"
CONTROL = ["snn_policy", "guide_policy", "state_estimator", "supervisor", "px4_bridge"]


class Stalls(threading.Thread):
    """When the machine itself stood still: a thread that should run a hundred times a second, before all others where it may."""

    LONG_S = 0.15

    def __init__(self):
        super().__init__(daemon=True)
        self.found = collections.deque(maxlen=1000)  # (t, seconds)

    def run(self):
        try:
            os.sched_setscheduler(threading.get_native_id(), os.SCHED_FIFO, os.sched_param(20))
        except OSError:
            pass
        last = time.monotonic()
        while True:
            time.sleep(0.01)
            now = time.monotonic()
            if now - last > self.LONG_S:
                self.found.append((time.time(), now - last))
            last = now

    def longest(self, since):
        return round(max((s for t, s in self.found if t >= since), default=0.0), 2)


STALLS = Stalls()
STALLS.start()


class Monitor(threading.Thread):
    """What is heard: the simulated vehicle's own odometry, authority, commands, policies."""

    def __init__(self, bus):
        super().__init__(daemon=True)
        self.going, self.lock = True, threading.Lock()
        self.truth = collections.deque(maxlen=120000)  # (t, x, y, z, tilt, speed, climb)
        self.authority = collections.deque(maxlen=4000)  # (t, state, reason)
        self.commands = collections.deque(maxlen=120000)  # (t, source, policy version)
        self.px4, self.px4_log = None, collections.deque(maxlen=5000)
        self.policy = self.learner = self.vehicle = None
        self.guide_at = 0
        self.readers = [
            (bus.reader("fmu/out/vehicle_odometry", "px4_msgs/msg/VehicleOdometry"), self.on_truth),
            (bus.reader("fmu/out/vehicle_status_v1", "px4_msgs/msg/VehicleStatus"), self.on_px4),
            (bus.reader("authority", "spikewing_msgs/msg/Authority", LATCHED), self.on_authority),
            (bus.reader("command", "spikewing_msgs/msg/MotorCommand"), self.on_command),
            (bus.reader("policy/status", "spikewing_msgs/msg/PolicyStatus", LATCHED), self.on_policy),
            (bus.reader("learner/status", "spikewing_msgs/msg/LearnerStatus", RELIABLE), self.on_learner),
            (bus.reader("vehicle/status", "spikewing_msgs/msg/VehicleStatus"), self.on_vehicle),
            (bus.reader("guide/command", "spikewing_msgs/msg/MotorCommand"), self.on_guide),
        ]

    def run(self):
        while self.going:
            for reader, on in self.readers:
                for sample in reader.take(200):
                    if type(sample).__name__ != "InvalidSample":
                        with self.lock:
                            on(sample, time.time())
            time.sleep(0.004)

    def on_truth(self, m, t):
        _, x, y, _ = m.q
        tilt = math.acos(max(-1, min(1, 1 - 2 * (x * x + y * y))))
        n, e, d = m.position
        speed = math.sqrt(sum(v * v for v in m.velocity))
        self.truth.append((t, e, n, -d, tilt, speed, -m.velocity[2]))

    def on_px4(self, m, t):
        state = (m.arming_state == 2, m.nav_state, m.failsafe)
        if state != self.px4:
            self.px4_log.append((t, state))
        self.px4 = state

    def on_authority(self, m, t):
        state = STATES[m.state] if m.state < len(STATES) else str(m.state)
        if not self.authority or self.authority[-1][1:] != (state, m.reason):
            self.authority.append((t, state, m.reason))

    def on_command(self, m, t):
        self.commands.append((t, m.source, m.policy_version))

    def on_policy(self, m, t):
        self.policy = m

    def on_learner(self, m, t):
        self.learner = m

    def on_vehicle(self, m, t):
        self.vehicle = m

    def on_guide(self, m, t):
        self.guide_at = t

    def state(self):
        with self.lock:
            return self.authority[-1][1] if self.authority else None

    def flown(self, since, setpoint=(0.0, 0.0)):
        """What the vehicle did since then, or None when nothing was heard of it."""
        with self.lock:
            window = [row for row in self.truth if row[0] >= since]
        if not window:
            return None
        impact = 0.0
        for before, after in zip(window, window[1:]):
            if before[3] > 0.015 >= after[3]:
                impact = max(impact, -before[6])
        return {
            "z": (round(min(r[3] for r in window), 2), round(max(r[3] for r in window), 2)),
            "xy": round(max(math.hypot(r[1] - setpoint[0], r[2] - setpoint[1]) for r in window), 2),
            "tilt": round(max(r[4] for r in window), 2),
            "speed": round(max(r[5] for r in window), 2),
            "impact": round(impact, 2),
            "end": tuple(round(v, 2) for v in window[-1][1:4]),
        }


def crashed(flown):
    return bool(flown) and (flown["impact"] > IMPACT_M_S or flown["tilt"] > TILT_RAD)


def children(parent):
    """Node name to process, of the nodes that a launcher runs."""
    found = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            status = Path(f"/proc/{entry}/status").read_text()
            words = Path(f"/proc/{entry}/cmdline").read_text().split("\0")
        except OSError:
            continue
        if f"PPid:\t{parent}\n" in status and "State:\tZ" not in status and len(words) > 2 and words[1] == "node":
            found[words[2]] = int(entry)
    return found


class Suite:
    """The launcher and its nodes."""

    def __init__(self, launch, tag, arguments=()):
        (OUT / "logs").mkdir(parents=True, exist_ok=True)
        self.path = OUT / f"logs/{tag}.log"
        self.log = open(self.path, "w")
        environment = {**os.environ, "SPIKEWING_SHARE": str(ROOT)}
        self.process = subprocess.Popen(
            [BINARY, "launch", str(launch), *arguments],
            cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT,
        )

    def nodes(self):
        return children(self.process.pid)

    def text(self):
        self.log.flush()
        return self.path.read_text(errors="replace")

    def stop(self):
        own = list(self.nodes().values())
        for process in own:
            send(process, signal.SIGCONT)
        begin = time.time()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(45)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for process in own:
            try:
                if "spikewing" in Path(f"/proc/{process}/cmdline").read_text():
                    send(process, signal.SIGKILL)
            except OSError:
                pass
        return self.process.returncode, round(time.time() - begin, 1)


def send(process, number):
    try:
        os.kill(process, number)
    except OSError:
        pass


class Flight:
    """One flight: suite, monitor, and what can be done to them."""

    def __init__(self, launch, tag, arguments=(), vehicle="crazyflie", height=1.0):
        self.launch, self.tag, self.arguments = launch, tag, arguments
        self.vehicle, self.height = vehicle, height
        self.bus = Bus()
        self.monitor = Monitor(self.bus)
        self.monitor.start()
        self.suite = Suite(launch, tag, arguments)
        self.records = open(OUT / f"logs/{tag}.jsonl", "w")

    def again(self, tag):
        """Everything anew, after a crash from which nothing came back."""
        self.suite.stop()
        self.suite = Suite(self.launch, f"{self.tag}_{tag}", self.arguments)
        return self.up()

    def wait(self, done, timeout):
        end = time.time() + timeout
        while time.time() < end:
            if done():
                return True
            if self.suite.process.poll() is not None:
                return False
            time.sleep(0.02)
        return False

    def flying(self, sources=(2,)):
        """Whether one of these sources commands an armed vehicle in offboard mode."""
        m = self.monitor
        with m.lock:
            if not m.commands or not m.truth or not m.px4:
                return False
            at, source, _ = m.commands[-1]
            return source in sources and time.time() - at < 0.3 and m.px4[0] and m.px4[1] == 14

    def steady(self, timeout, need=1.5, box=0.7, sources=(2,)):
        """The student flies with a fresh guide behind it, in its box, for `need` seconds on end."""
        end, since = time.time() + timeout, None
        while time.time() < end and self.suite.process.poll() is None:
            with self.monitor.lock:
                last = self.monitor.truth[-1] if self.monitor.truth else None
            near = last and max(abs(last[1]), abs(last[2]), abs(last[3] - self.height)) < box
            good = near and self.flying(sources) and time.time() - self.monitor.guide_at < 0.3
            since = (since or time.time()) if good else None
            if since and time.time() - since >= need:
                return True
            time.sleep(0.02)
        return False

    def up(self, timeout=60):
        return self.wait(self.flying, timeout)

    def newest(self):
        p = self.monitor.policy
        return max(p.active_version, p.shadow_version) if p else 1

    def update(self, data, version, sha=True, form="safetensors"):
        m = default("spikewing_msgs/msg/PolicyUpdate")
        m.version, m.format, m.data = version, form, list(data)
        m.sha256 = hashlib.sha256(data).hexdigest() if sha else "0" * 64
        m.return_estimate = float("nan")
        self.bus.writer("policy/update", "spikewing_msgs/msg/PolicyUpdate", LATCHED).write(m)

    def swap(self, data=None, path=""):
        service, srv = "snn_policy/swap_policy", "spikewing_msgs/srv/SwapPolicy"
        return self.bus.call(service, srv, path=path, data=list(data or b""))

    def trigger(self, service):
        return self.bus.call(service, "std_srvs/srv/Trigger")

    def node(self, name):
        return self.suite.nodes().get(name)

    def kill(self, name):
        process = self.node(name)
        if process:
            send(process, signal.SIGKILL)
        return {"node": name}

    def freeze(self, name, seconds):
        process = self.node(name)
        if process:
            send(process, signal.SIGSTOP)
            time.sleep(seconds)
            send(process, signal.SIGCONT)
        return {"node": name, "seconds": round(seconds, 3)}

    def record(self, **fields):
        self.records.write(json.dumps(fields) + "\n")
        self.records.flush()
        print(" ".join(f"{k}={v}" for k, v in fields.items()), flush=True)

    def since(self, begin):
        """Who flew and why, and what PX4 did, since then."""
        with self.monitor.lock:
            authority = [(round(a[0] - begin, 2), a[1], a[2][:90]) for a in self.monitor.authority if a[0] >= begin][-7:]
            px4 = [(round(t - begin, 2), s) for t, s in self.monitor.px4_log if t >= begin]
        return {"authority": authority, "px4": px4}

    def end(self):
        code, took = self.suite.stop()
        self.monitor.going = False
        self.monitor.join(2)
        self.bus.close()
        print(f"[{self.tag}] launcher exit {code} after {took} s; log {self.suite.path}", flush=True)


X500 = [f"params:={HERE}/params/x500.yaml", f"policy:={policies.STUDENT['x500']}"]


def fly(tag, on="crazyflie", arguments=(), launch=None):
    """Starts a flight: the Crazyflie or the X500 in hover, or live training."""
    if on == "train":
        run_dir = OUT / f"runs/{tag}_{int(time.time())}"
        return Flight(ROOT / "launch/train_sim.launch.yaml", tag, [f"run_dir:={run_dir}"])
    launch = launch or ROOT / "launch/hover_sim.launch.yaml"
    if on == "x500":
        return Flight(launch, tag, [*X500, *arguments], "x500", 2.0)
    return Flight(launch, tag, arguments)
