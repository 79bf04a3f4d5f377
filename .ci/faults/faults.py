#!/usr/bin/env python3
"""Random and scripted faults against the suite, from outside. See README.md.

  .ci/loopback PYTHON .ci/faults/faults.py campaign [--on crazyflie|x500|train] [--seed N] [--faults N | --seconds S]
  .ci/loopback PYTHON .ci/faults/faults.py scenario NAME ... [--seed N]
  .ci/loopback PYTHON .ci/faults/faults.py repeat NODE kill|hang|SECONDS [--on crazyflie|x500] [--times N]
  PYTHON .ci/faults/faults.py list
"""

import argparse
import collections
import random
import signal
import sys
import time

import policies
import scenarios
from flight import CONTROL, STALLS, crashed, fly, send
from ros import LATCHED, SENSOR, default, stamp

# --- one fault each ---------------------------------------------------------------------------------------------------


def kill(f, rng):
    return f.kill(rng.choice(CONTROL))


def kill_learner(f, rng):
    return f.kill("online_learner")


def freeze(f, rng):
    return f.freeze(rng.choice(CONTROL + ["online_learner"]), rng.uniform(0.03, 0.4))


def freeze_long(f, rng):
    return f.freeze(rng.choice(CONTROL + ["online_learner"]), rng.uniform(0.4, 4.0))


def hang(f, rng):
    """Stopped for good: only who ends it can help."""
    node = rng.choice(CONTROL)
    process = f.node(node)
    if process:
        send(process, signal.SIGSTOP)
    return {"node": node}


def launcher_held(f, rng):
    """The launcher is stopped and its nodes log: nobody reads their pipes."""
    seconds = rng.uniform(0.5, 3.0)
    f.suite.process.send_signal(signal.SIGSTOP)
    version, end = f.newest(), time.time() + seconds
    while time.time() < end:
        version += 1
        f.update(b"garbage", version)
        time.sleep(0.01)
    f.suite.process.send_signal(signal.SIGCONT)
    return {"seconds": round(seconds, 2)}


def broken_update(f, rng):
    kind, data, sha, form = policies.broken(f.vehicle, rng)
    f.update(data, f.newest() + rng.randrange(1, 5), sha, form)
    return {"what": kind}


def old_update(f, rng):
    f.update(policies.sound(f.vehicle), rng.randrange(0, max(1, f.newest())))
    return {}


def swap(f, rng):
    answer = f.swap(policies.sound(f.vehicle, str(rng.random())))
    return {"done": bool(answer and answer.success)}


def swap_broken(f, rng):
    kind, data, _, _ = policies.broken(f.vehicle, rng)
    return {"what": kind, "answered": bool(f.swap(data)) if data else "not asked"}


def swap_path(f, rng):
    path = rng.choice(["/etc/passwd", "/dev/zero", "/nonexistent", "/proc/self/mem", "/"])
    return {"what": path, "answered": bool(f.swap(path=path))}


def dead_student(f, rng):
    """A policy that is well formed and cannot fly; then a sound one again."""
    motors = rng.choice([[0.0] * 4, [-1.0] * 4, [1.0] * 4, [0.9, 0.9, -0.9, -0.9], [0.3, 0.3, -0.1, -0.1]])
    f.swap(policies.constant(f.vehicle, motors))
    time.sleep(rng.uniform(2.0, 6.0))
    f.swap(policies.sound(f.vehicle, str(rng.random())))
    return {"motors": motors}


def odometry(x=0.0, y=0.0, z=1.0):
    m = default("nav_msgs/msg/Odometry")
    m.header.frame_id, m.child_frame_id = "map", "base_link"
    stamp(m.header.stamp, time.time())
    p = m.pose.pose.position
    p.x, p.y, p.z, m.pose.pose.orientation.w = x, y, z, 1.0
    return m


def foreign_odometry(f, rng):
    topic = rng.choice(["odometry", "vehicle/odometry"])
    what = rng.choice(["nan", "past", "future", "zero", "jump", "quaternion"])
    writer, count = f.bus.writer(topic, "nav_msgs/msg/Odometry"), rng.randrange(1, 30)
    for _ in range(count):
        m = odometry(*[rng.uniform(-3, 3) for _ in range(3)]) if what == "jump" else odometry(z=f.height)
        if what == "nan":
            m.pose.pose.position.x = float("nan")
        elif what == "past":
            stamp(m.header.stamp, time.time() - rng.uniform(0.1, 100))
        elif what == "future":
            stamp(m.header.stamp, time.time() + rng.uniform(0.1, 100))
        elif what == "zero":
            stamp(m.header.stamp, 0)
        elif what == "quaternion":
            m.pose.pose.orientation.w = rng.choice([0.0, 2.0, float("nan")])
        writer.write(m)
        time.sleep(0.005)
    return {"topic": topic, "what": what, "count": count}


def foreign_imu(f, rng):
    writer = f.bus.writer("imu", "sensor_msgs/msg/Imu")
    what = rng.choice(["nan", "big", "future"])
    for _ in range(rng.randrange(1, 20)):
        m = default("sensor_msgs/msg/Imu")
        stamp(m.header.stamp, time.time() + (5 if what == "future" else 0))
        m.linear_acceleration.z = {"nan": float("nan"), "big": 500.0}.get(what, 9.81)
        m.angular_velocity.x = 30.0 if what == "big" else 0.0
        writer.write(m)
        time.sleep(0.005)
    return {"what": what}


def foreign_setpoint(f, rng):
    """A setpoint that is none, or far outside; then the old one again."""
    writer = f.bus.writer("setpoint", "geometry_msgs/msg/PoseStamped")
    x = rng.choice([float("nan"), float("inf"), -float("inf"), 1000.0, -50.0])
    m = default("geometry_msgs/msg/PoseStamped")
    m.pose.orientation.w, m.pose.position.x, m.pose.position.z = 1.0, x, f.height
    writer.write(m)
    time.sleep(rng.uniform(0.2, 1.0))
    m.pose.position.x = 0.0
    writer.write(m)
    return {"x": str(x)}


def foreign_command(f, rng):
    """A second process commands: as student, as guide, or as supervisor; with stamps of the present, past or future."""
    topic, dt = rng.choice(["student/command", "guide/command", "command"]), rng.choice([0.0, -1.0, 3600.0])
    writer = f.bus.writer(topic, "spikewing_msgs/msg/MotorCommand", SENSOR)
    m = default("spikewing_msgs/msg/MotorCommand")
    m.motors, m.warmth, m.instance = [rng.choice([-1.0, 1.0]) for _ in range(4)], 1.0, rng.choice([0, 1, 2**63])
    m.source = rng.randrange(1, 4)
    for _ in range(rng.randrange(1, 40)):
        stamp(m.odometry_stamp, time.time() + dt)
        stamp(m.header.stamp, time.time() + dt)
        writer.write(m)
        time.sleep(0.005)
    return {"topic": topic, "dt": dt}


def flood(f, rng):
    what = rng.choice(["experience", "student/command", "policy/update", "requests", "setpoint"])
    count, begin = rng.randrange(300, 1500), time.time()
    if what == "experience":
        m = default("spikewing_msgs/msg/Experience")
        m.observation, m.actor_id = [float("nan")] * 18, "rogue"
        writer = f.bus.writer(what, "spikewing_msgs/msg/Experience")
        for _ in range(count):
            writer.write(m)
    elif what == "student/command":
        m = default("spikewing_msgs/msg/MotorCommand")
        m.motors = [float("nan")] * 4
        writer = f.bus.writer(what, "spikewing_msgs/msg/MotorCommand", SENSOR)
        for _ in range(count):
            writer.write(m)
    elif what == "policy/update":
        count = 30
        for _ in range(count):
            f.update(rng.randbytes(50000), f.newest() + 1)
    elif what == "setpoint":
        m = default("geometry_msgs/msg/PoseStamped")
        m.pose.position.z, m.pose.orientation.w = f.height, 1.0
        writer = f.bus.writer(what, "geometry_msgs/msg/PoseStamped")
        for _ in range(count):
            writer.write(m)
    else:
        count = 100
        for _ in range(count):
            f.bus.call("snn_policy/list_policies", "spikewing_msgs/srv/ListPolicies", timeout=0.0)
    return {"what": what, "count": count, "took": round(time.time() - begin, 2)}


def reset_estimator(f, rng):
    answer = f.trigger("state_estimator/reset")
    return {"done": bool(answer and answer.success)}


def jump_start(f, rng):
    writer = f.bus.writer("learner/jump_start", "spikewing_msgs/msg/JumpStart", LATCHED)
    m = default("spikewing_msgs/msg/JumpStart")
    m.guide_steps, m.episode_steps = rng.choice([(10, 0), (600, 500), (4000000000, 5)])
    writer.write(m)
    return {"what": (m.guide_steps, m.episode_steps)}


# Fault and weight.
FAULTS = [
    (kill, 8), (kill_learner, 1), (freeze, 8), (freeze_long, 4), (hang, 2), (launcher_held, 2),
    (broken_update, 5), (old_update, 2), (swap, 4), (swap_broken, 3), (swap_path, 1), (dead_student, 3),
    (foreign_odometry, 5), (foreign_imu, 2), (foreign_setpoint, 3), (foreign_command, 4),
    (flood, 4), (reset_estimator, 2), (jump_start, 1),
]


def campaign(on, seed, faults, seconds, only):
    """Fault after fault in one flight. Returns the number of crashes, and of times it did not come back by itself."""
    rng, tag = random.Random(seed), f"{on}_seed{seed}"
    print(f"=== {faults or 'as many as fit'} faults on {on}, seed {seed}", flush=True)
    f = fly(tag, on)
    counts, crashes, lost = collections.Counter(), [], []
    begin, number = time.time(), 0
    pool = [x for x in FAULTS if (not only or x[0].__name__ in only) and (on == "train" or x[0] is not kill_learner)]
    try:
        if not f.up():
            print("never flew:", f.suite.text()[-1500:])
            return 1, 1
        time.sleep(2)
        while number < faults if faults else time.time() - begin < seconds:
            fault = rng.choices([x[0] for x in pool], [x[1] for x in pool])[0]
            start = time.time()
            what = fault(f, rng)
            # In training the vehicle is put back now and then, and the student may be a beginner.
            back = f.steady(25, 0.6, 9.0, (1, 2)) if on == "train" else f.steady(25)
            flown = f.monitor.flown(start)
            crash, stall = on != "train" and crashed(flown), STALLS.longest(start)
            result = "crash" if crash else "ok" if back else "not back"
            if result != "ok" and stall:
                # A machine that stands still is no fault of the suite's.
                result += f", the machine stood still for {stall} s"
            counts[f"{fault.__name__}: {result.split(',')[0]}"] += 1
            detail = f.since(start) if result != "ok" else {}
            f.record(i=number, fault=fault.__name__, **what, result=result, back=round(time.time() - start, 1), flown=flown, **detail)
            if crash and not stall:
                crashes.append((number, fault.__name__, what))
            if not back:
                if not stall:
                    lost.append((number, fault.__name__, what))
                # A person comes and arms again, once it stands.
                f.wait(lambda: f.monitor.px4 and not f.monitor.px4[0], 15)
                f.trigger("supervisor/arm")
                if not f.up(20) and not f.again(number):
                    print("does not fly any more:", f.suite.text()[-1500:])
                    break
            number += 1
            time.sleep(rng.uniform(0.3, 1.5))
    finally:
        p = f.monitor.policy
        if p:
            print(f"swaps {p.swaps}, refused {p.refused}, rollbacks {p.rollbacks}; {p.missed_ticks} of {p.ticks} ticks missed")
        f.end()
    for name, count in sorted(counts.items()):
        print(f"{count:4} {name}")
    print(f"seed {seed} on {on}: {number} faults, {len(crashes)} crashes {crashes}, not back by itself {len(lost)} {lost}", flush=True)
    return len(crashes), len(lost)


def repeat(on, node, how, count):
    """One node killed, hung or stopped again and again, from steady flight. Returns the number of crashes, and of times it was not back."""
    print(f"=== {node} on {on}: {how}, {count} times", flush=True)
    f, crashes, lost = fly(f"repeat_{on}_{node}_{how}", on), 0, 0
    try:
        f.up()
        for number in range(count):
            f.steady(25)
            start = time.time()
            if how == "kill":
                f.kill(node)
            elif how == "hang":
                send(f.node(node), signal.SIGSTOP)
            else:
                f.freeze(node, float(how))
            back = f.steady(25)
            flown = f.monitor.flown(start)
            with f.monitor.lock:
                times = [c[0] for c in f.monitor.commands if c[0] >= start - 0.1]
            gap = round(max((b - a for a, b in zip(times, times[1:])), default=25.0), 3)
            crashes, lost = crashes + crashed(flown), lost + (not back)
            detail = f.since(start) if crashed(flown) or not back else {}
            f.record(i=number, crash=crashed(flown), back=back, took=round(time.time() - start, 2), longest_gap_of_commands=gap, flown=flown, **detail)
            if not back:
                f.wait(lambda: f.monitor.px4 and not f.monitor.px4[0], 15)
                f.trigger("supervisor/arm")
                if not f.up(20) and not f.again(number):
                    break
    finally:
        f.end()
    print(f"{node} on {on}, {how}: {count} times, {crashes} crashes, {lost} not back by itself", flush=True)
    return crashes, lost


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(dest="mode", required=True)
    c = modes.add_parser("campaign")
    c.add_argument("--on", choices=["crazyflie", "x500", "train"], default="crazyflie")
    c.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    c.add_argument("--faults", type=int, default=0, help="how many; 0: as many as fit into --seconds")
    c.add_argument("--seconds", type=float, default=120)
    c.add_argument("--only", nargs="*", help="kinds of fault")
    c.add_argument("--judge", choices=["crash", "all"], default="all", help="what makes the exit status 1")
    s = modes.add_parser("scenario")
    s.add_argument("names", nargs="+")
    s.add_argument("--seed", type=int, default=1)
    r = modes.add_parser("repeat")
    r.add_argument("node", choices=CONTROL)
    r.add_argument("how", help="kill, hang, or for how many seconds it is stopped")
    r.add_argument("--on", choices=["crazyflie", "x500"], default="crazyflie")
    r.add_argument("--times", type=int, default=10)
    modes.add_parser("list")
    x = parser.parse_args()
    if x.mode == "list":
        print("\n".join(f"{name}: {run.__doc__}" for name, run in scenarios.SCENARIOS.items()))
        return 0
    if x.mode == "campaign":
        crashes, lost = campaign(x.on, x.seed, x.faults, x.seconds, x.only)
        return int(crashes > 0 or (x.judge == "all" and lost > 0))
    if x.mode == "repeat":
        return int(any(repeat(x.on, x.node, x.how, x.times)))
    fell = 0
    for name in x.names:
        print(f"=== {name} (seed {x.seed})", flush=True)
        fell += scenarios.SCENARIOS[name](random.Random(x.seed)) or 0
    print(f"{fell} crashes")
    return int(fell > 0)


if __name__ == "__main__":
    sys.exit(main())
