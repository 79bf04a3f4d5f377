"""Faults one at a time, each in a flight of its own; what is judged is whether the vehicle falls."""

import collections
import copy
import signal
import threading
import time

import policies
from cyclonedds.sub import DataReader
from flight import CONTROL, HERE, crashed, fly, send
from ros import LATCHED, SENSOR, default, stamp

SCENARIOS = {}


def scenario(run):
    SCENARIOS[run.__name__] = run
    return run


class Case:
    """A flight in which one thing is done and its outcome told. Counts crashes over the cases of a scenario."""

    def __init__(self, tag, on="crazyflie", settle=2.0, start=True, **options):
        self.f = fly(tag, on, **options)
        self.began, self.fell = time.time(), 0
        if start and not self.f.up():
            print("never flew:", self.f.suite.text()[-800:])
        time.sleep(settle)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.f.end()

    def begin(self):
        self.began = time.time()

    def tell(self, what, **more):
        """What became of the vehicle since the beginning. Returns 1 for a crash."""
        f = self.f
        flown = f.monitor.flown(self.began)
        crash = crashed(flown)
        with f.monitor.lock:
            sources = collections.Counter(c[1] for c in f.monitor.commands if c[0] >= self.began)
        f.record(
            what=what, crash=crash, flown=flown, **f.since(self.began), commands=dict(sources),
            now=(f.monitor.state(), f.monitor.px4), flying=f.flying((1, 2)), **more,
        )
        self.fell += crash
        return int(crash)


def vehicle_command(command, **parameters):
    m = default("px4_msgs/msg/VehicleCommand")
    m.target_system = m.target_component = m.source_system = 1
    m.command, m.from_external = command, True
    for name, value in parameters.items():
        setattr(m, name, value)
    return m


class Relay(threading.Thread):
    """Passes a topic on under another name, and spoils it on demand: `fault` makes a list of messages of each."""

    def __init__(self, bus, source, target, key):
        super().__init__(daemon=True)
        self.reader, self.writer = bus.reader(source, key), bus.writer(target, key, SENSOR)
        self.fault, self.going = None, True

    def run(self):
        while self.going:
            for sample in self.reader.take(20):
                if type(sample).__name__ != "InvalidSample":
                    for out in self.fault(sample) if self.fault else [sample]:
                        self.writer.write(out)
            time.sleep(0.0015)


@scenario
def kill_each(rng):
    """SIGKILL of each node of the control path; the guide and then the student"""
    fell = 0
    for on in ("crazyflie", "x500"):
        for node in ["supervisor", "px4_bridge", "state_estimator", "guide_policy", "snn_policy"]:
            with Case(f"kill_{on}_{node}", on) as case:
                case.begin()
                case.f.kill(node)
                time.sleep(6)
                fell += case.tell(f"{on}: kill {node}", back=node in case.f.suite.nodes())
                if node == "guide_policy":
                    case.begin()
                    case.f.kill("snn_policy")
                    time.sleep(5)
                    fell += case.tell("then kill snn_policy")
    return fell


@scenario
def kill_twice(rng):
    """Two nodes of the control path at once"""
    fell = 0
    for pair in [("supervisor", "px4_bridge"), ("state_estimator", "supervisor"), ("guide_policy", "snn_policy")]:
        with Case("kill_" + "_".join(pair)) as case:
            case.begin()
            for node in pair:
                case.f.kill(node)
            time.sleep(8)
            fell += case.tell("kill " + " and ".join(pair))
    return fell


@scenario
def freeze_each(rng):
    """SIGSTOP of each node of the control path for 0.05 to 3 s"""
    fell = 0
    for node in CONTROL:
        with Case(f"freeze_{node}") as case:
            for seconds in [0.05, 0.1, 0.2, 0.3, 1.0, 3.0]:
                case.f.steady(20, need=1.0)
                case.begin()
                case.f.freeze(node, seconds)
                time.sleep(4)
                fell += case.tell(f"{node} stopped for {seconds} s")
    return fell


@scenario
def training(rng):
    """SIGKILL of supervisor, bridge and estimator in live training as shipped"""
    fell = 0
    for node in ["supervisor", "px4_bridge", "state_estimator"]:
        with Case(f"train_kill_{node}", "train", settle=1) as case:
            case.f.wait(lambda: case.f.monitor.policy and case.f.monitor.policy.swaps >= 4, 60)
            case.f.up(30)
            case.begin()
            case.f.kill(node)
            time.sleep(6)
            fell += case.tell(f"train_sim: kill {node}")
    return fell


@scenario
def rogue(rng):
    """A foreign publisher on each of the topics, for a second"""
    fell = 0

    def command(dt):
        m = default("spikewing_msgs/msg/MotorCommand")
        m.motors, m.warmth, m.source = [1.0, 1.0, -1.0, -1.0], 1.0, 2
        stamp(m.odometry_stamp, time.time() + dt)
        stamp(m.header.stamp, time.time() + dt)
        return m

    def stream(writer, make, seconds=1.0, rate=300):
        end = time.time() + seconds
        while time.time() < end:
            writer.write(make())
            time.sleep(1 / rate)

    motor = "spikewing_msgs/msg/MotorCommand"
    for what, topic in [
        ("future", "student/command"), ("future", "guide/command"), ("now", "command"), ("idle", "authority"),
        ("zeros", "fmu/in/actuator_motors"), ("dead", "policy/update"), ("far", "setpoint"), ("below", "setpoint"), ("high", "guide/setpoint"),
    ]:
        with Case(f"rogue_{what}_{topic.replace('/', '_')}") as case:
            bus = case.f.bus
            if "command" in topic:
                writer = bus.writer(topic, motor, SENSOR)
                case.begin()
                stream(writer, lambda: command(3600.0 if what == "future" else 0.0))
            elif topic == "authority":
                writer = bus.writer(topic, "spikewing_msgs/msg/Authority", LATCHED)
                case.begin()
                writer.write(default("spikewing_msgs/msg/Authority"))
            elif topic == "fmu/in/actuator_motors":
                writer = bus.writer(topic, "px4_msgs/msg/ActuatorMotors", SENSOR)
                case.begin()
                stream(writer, lambda: default("px4_msgs/msg/ActuatorMotors"))
            elif topic == "policy/update":
                case.begin()
                case.f.update(policies.constant("crazyflie", [0.1] * 4), case.f.newest() + 1)
            else:
                writer = bus.writer(topic, "geometry_msgs/msg/PoseStamped", SENSOR)
                m = default("geometry_msgs/msg/PoseStamped")
                m.pose.orientation.w = 1.0
                m.pose.position.x, m.pose.position.z = {"far": (1000.0, 1.0), "below": (0.0, -50.0), "high": (0.0, 100.0)}[what]
                case.begin()
                for _ in range(10):
                    writer.write(m)
                    time.sleep(0.05)
            time.sleep(6)
            # What comes in on PX4's own topics goes past the suite; it is told, and counted as PX4's.
            fallen = case.tell(f"rogue {topic} ({what})")
            fell += 0 if topic.startswith("fmu/") else fallen
    return fell


@scenario
def pilot(rng):
    """The pilot takes over by a mode change; then somebody calls ~/arm; and a kill switch in flight, which nothing may undo"""
    fell = 0
    for what in ["mode", "kill switch"]:
        with Case("pilot_" + what.replace(" ", "_")) as case:
            bus = case.f.bus
            writer = bus.writer("fmu/in/vehicle_command", "px4_msgs/msg/VehicleCommand", SENSOR)
            motors = bus.reader("fmu/in/actuator_motors", "px4_msgs/msg/ActuatorMotors")
            beats = bus.reader("fmu/in/offboard_control_mode", "px4_msgs/msg/OffboardControlMode")
            time.sleep(0.5)
            motors.take(500), beats.take(500)
            case.begin()
            writer.write(vehicle_command(21) if what == "mode" else vehicle_command(400, param1=0.0, param2=21196.0))
            last = {"motors": None, "heartbeat": None}
            while time.time() - case.began < (3.0 if what == "mode" else 8.0):
                for name, reader in [("motors", motors), ("heartbeat", beats)]:
                    if reader.take(100):
                        last[name] = round(time.time() - case.began, 3)
                time.sleep(0.004)
            armed_again = what != "mode" and bool(case.f.monitor.px4 and case.f.monitor.px4[0])
            fallen = case.tell(f"pilot: {what}", last_seen=last, armed_again=armed_again)
            # A kill switch in flight is a fall by intent; only arming again would be ours.
            fell += fallen if what == "mode" else int(armed_again)
            if what == "mode":
                case.begin()
                answer = case.f.trigger("supervisor/arm")
                time.sleep(5)
                fell += case.tell("~/arm while the autopilot lands", answer=answer and answer.message)
    return fell


@scenario
def status_lost(rng):
    """PX4's status no longer arrives, then the pilot takes over: heartbeat and motor setpoints must have stopped"""
    with Case("status_lost", settle=0, start=False, launch=HERE / "launch/hover_status.launch.yaml") as case:
        bus = case.f.bus
        relay = Relay(bus, "fmu/out/vehicle_status_v1", "relay/vehicle_status", "px4_msgs/msg/VehicleStatus")
        relay.start()
        print("flies:", case.f.up())
        motors = bus.reader("fmu/in/actuator_motors", "px4_msgs/msg/ActuatorMotors")
        writer = bus.writer("fmu/in/vehicle_command", "px4_msgs/msg/VehicleCommand", SENSOR)
        case.begin()
        relay.fault = lambda _: []
        time.sleep(3)
        motors.take(1000)
        time.sleep(1)
        rate = len(motors.take(1000))
        writer.write(vehicle_command(21))
        time.sleep(0.5)
        motors.take(1000)
        time.sleep(2)
        after = len(motors.take(1000)) / 2
        fell = case.tell("status lost", motors_per_s_without_status=rate, motors_per_s_after_takeover=after)
        relay.going = False
        return fell + int(after > 0)


@scenario
def bad_odometry(rng):
    """The odometry between bridge and estimator: frozen with stamps that advance, late, doubled, shuffled, dropped, drifting"""
    fell = 0

    def frozen():
        first = []

        def fault(sample):
            first.append(copy.deepcopy(sample)) if not first else None
            m = copy.deepcopy(first[0])
            m.header.stamp = sample.header.stamp
            return [m]

        return fault

    def late(count, stamped_anew=False):
        queue = collections.deque()

        def fault(sample):
            queue.append(copy.deepcopy(sample))
            if len(queue) <= count:
                return []
            m = queue.popleft()
            if stamped_anew:
                m.header.stamp = sample.header.stamp
            return [m]

        return fault

    def shifted(dt):
        def fault(sample):
            stamp(sample.header.stamp, sample.header.stamp.sec + sample.header.stamp.nanosec * 1e-9 + dt)
            return [sample]

        return fault

    def shuffled():
        held = []

        def fault(sample):
            held.append(sample)
            if len(held) < 4:
                return []
            out = list(held)
            held.clear()
            rng.shuffle(out)
            return out

        return fault

    def drifting(speed):
        count = [0]

        def fault(sample):
            count[0] += 1
            sample.pose.pose.position.x += speed * 0.01 * count[0]
            return [sample]

        return fault

    for what, fault, seconds in [
        ("passed on only", None, 3), ("frozen, stamps advance", frozen(), 4), ("30 ms late", late(3), 4),
        ("0.2 s late", late(20), 4), ("0.1 s late, stamped anew", late(10, True), 4), ("an hour ahead", shifted(3600), 4),
        ("an hour behind", shifted(-3600), 4), ("twice", lambda s: [s, s], 3), ("shuffled in fours", shuffled(), 3),
        ("30 % dropped", lambda s: [] if rng.random() < 0.3 else [s], 3), ("nothing for 0.3 s", lambda s: [], 0.3),
        ("nothing for 1 s", lambda s: [], 1.0), ("drifts by 0.5 m/s", drifting(0.5), 6),
    ]:
        tag = "odometry_" + "".join(c if c.isalnum() else "_" for c in what)
        with Case(tag, settle=0, start=False, launch=HERE / "launch/hover_relay.launch.yaml") as case:
            relay = Relay(case.f.bus, "vehicle/odometry", "relay/odometry", "nav_msgs/msg/Odometry")
            relay.start()
            if case.f.up():
                time.sleep(1.5)
                case.begin()
                relay.fault = fault
                time.sleep(seconds)
                relay.fault = None
                time.sleep(5)
                fell += case.tell("odometry " + what)
            else:
                print("never flew", what)
            relay.going = False
    return fell


@scenario
def frozen_while_landing(rng):
    """~/land, and the odometry freezes half way down: the motors must not be cut in the air"""
    launch, params = HERE / "launch/hover_relay.launch.yaml", f"params:={HERE}/params/high.yaml"
    with Case("frozen_landing", settle=0, start=False, launch=launch, arguments=[params]) as case:
        relay = Relay(case.f.bus, "vehicle/odometry", "relay/odometry", "nav_msgs/msg/Odometry")
        relay.start()
        case.f.wait(lambda: case.f.monitor.state() == "GUIDE", 30)
        time.sleep(9)
        case.f.trigger("supervisor/land")
        time.sleep(2.0)
        first = []

        def fault(sample):
            if not first:
                first.append(copy.deepcopy(sample))
                v = first[0].twist.twist.linear
                v.x = v.y = v.z = 0.0
            m = copy.deepcopy(first[0])
            m.header.stamp = sample.header.stamp
            return [m]

        case.begin()
        relay.fault = fault
        time.sleep(8)
        relay.going = False
        return case.tell("odometry frozen while landing")


@scenario
def dead_policies(rng):
    """Constant and bang-bang students through ~/swap_policy, for 20 s each"""
    fell = 0
    for on in ("crazyflie", "x500"):
        for motors in [[0.0] * 4, [-1.0] * 4, [1.0] * 4, [0.9, 0.9, -0.9, -0.9], [0.9, -0.9, 0.9, -0.9], [0.3, 0.3, -0.1, -0.1]]:
            with Case(f"dead_{on}_" + "_".join(map(str, motors)), on) as case:
                case.begin()
                answer = case.f.swap(policies.constant(on, motors))
                time.sleep(20)
                p = case.f.monitor.policy
                fell += case.tell(
                    f"{on}: constant {motors}", answer=answer and answer.message,
                    active=p.active_version, rollbacks=p.rollbacks, refused=p.last_refusal[:80],
                )
    return fell


@scenario
def poison(rng):
    """A valid update with version 2^64-1 while a learner runs: later ones must still be taken"""
    with Case("poison", "train", settle=0) as case:
        f = case.f
        f.wait(lambda: f.monitor.policy and f.monitor.policy.swaps >= 2, 60)
        case.begin()
        f.update(policies.sound("crazyflie", "poison"), 2**64 - 1)
        time.sleep(2)
        swaps = f.monitor.policy.swaps
        more = f.wait(lambda: f.monitor.policy.swaps >= swaps + 2, 30)
        f.kill("snn_policy")
        time.sleep(3)
        swaps = f.monitor.policy.swaps
        again = f.wait(lambda: f.monitor.policy.swaps > swaps, 30)
        case.tell("poisoned version", swapped_afterwards=more, and_after_the_student_was_killed=again)
        return int(not (more and again))


@scenario
def launcher_gone(rng):
    """SIGKILL of the launcher in flight; then things that make nodes log"""
    with Case("launcher_gone") as case:
        f, nodes = case.f, case.f.suite.nodes()
        case.begin()
        f.suite.process.kill()
        f.suite.process.wait()
        time.sleep(2)
        f.update(b"garbage" * 100, f.newest() + 1)
        m = default("geometry_msgs/msg/PoseStamped")
        m.pose.position.x = float("nan")
        f.bus.writer("setpoint", "geometry_msgs/msg/PoseStamped").write(m)
        time.sleep(4)
        fell = case.tell("the launcher was killed")
        for process in nodes.values():
            send(process, signal.SIGKILL)
        return fell


@scenario
def launcher_stopped(rng):
    """The launcher is stopped (Ctrl-Z, or a terminal that is held): nobody reads the nodes' pipes"""
    with Case("launcher_stopped") as case:
        f = case.f
        f.suite.process.send_signal(signal.SIGSTOP)
        case.begin()
        ticks, version = f.monitor.policy.ticks, f.newest()
        for _ in range(1200):
            version += 1
            f.update(b"garbage", version)
            time.sleep(0.004)
        time.sleep(3)
        fell = case.tell("launcher stopped, 1200 refused updates", ticks=f.monitor.policy.ticks - ticks)
        f.suite.process.send_signal(signal.SIGCONT)
        time.sleep(3)
        return fell + case.tell("it goes on")


@scenario
def floods(rng):
    """5000 service requests, and ten updates of 4 MB"""
    with Case("floods") as case:
        f = case.f
        case.begin()
        before = f.monitor.policy
        for _ in range(5000):
            f.bus.call("snn_policy/list_policies", "spikewing_msgs/srv/ListPolicies", timeout=0)
        time.sleep(3)
        version = f.newest()
        for _ in range(10):
            version += 1
            f.update(bytes(4 << 20), version, sha=False)
        time.sleep(3)
        after = f.monitor.policy
        return case.tell("floods", missed=after.missed_ticks - before.missed_ticks, ticks=after.ticks - before.ticks)


@scenario
def stop_while_arming(rng):
    """auto_arm off: ~/arm, and ~/stop 0.3 s later: it must not take off"""
    with Case("stop_while_arming", settle=6, start=False, arguments=[f"params:={HERE}/params/manual.yaml"]) as case:
        case.f.bus.call("supervisor/stop", "std_srvs/srv/Trigger", timeout=1)
        case.begin()
        print("arm:", case.f.trigger("supervisor/arm"))
        time.sleep(0.3)
        print("stop:", case.f.trigger("supervisor/stop"))
        time.sleep(6)
        fell = case.tell("~/stop while arming")
        flown = case.f.monitor.flown(case.began)
        return fell + int(bool(flown and flown["end"][2] > 0.2))
