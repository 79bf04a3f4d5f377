"""A flight of the suite inside a real ROS 2, and an rclpy node that looks at it. Run by `.ci/ros2 test`."""

import os
import pathlib
import signal
import subprocess
import time

import pytest
import rclpy
import yaml
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

ROOT = pathlib.Path(__file__).resolve().parents[4]
BIN = pathlib.Path(os.environ["SPIKEWING_ROS2_BIN"])
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
# How long to wait for what should take milliseconds: a busy machine is no failure.
PATIENCE = 30.0


class Process:
    """A program of the suite and what it says."""

    def __init__(self, folder, arguments, environment=None):
        self.log = folder / f"{pathlib.Path(arguments[0]).name}-{time.monotonic_ns()}.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [str(BIN / arguments[0]), *arguments[1:]],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={**os.environ, **(environment or {})},
            )

    def text(self):
        return self.log.read_text(errors="replace")

    def waits_for(self, words, limit=PATIENCE):
        end = time.monotonic() + limit
        while words not in self.text():
            assert self.process.poll() is None, f"ended: {self.text()}"
            assert time.monotonic() < end, f"never said {words!r}: {self.text()}"
            time.sleep(0.05)

    def stop(self):
        """Ends it as Ctrl-C does. Returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


class Probe:
    """An rclpy node in this process."""

    def __init__(self, name="probe"):
        self.node = rclpy.create_node(name)

    def until(self, condition, limit=PATIENCE):
        """Spins until the condition holds; returns how long that took."""
        start = time.monotonic()
        while not condition():
            assert time.monotonic() - start < limit, "not within the time"
            rclpy.spin_once(self.node, timeout_sec=0.02)
        return time.monotonic() - start

    def hear(self, message, topic, qos):
        """The list into which samples of the topic come."""
        samples = []
        self.node.create_subscription(message, topic, samples.append, qos)
        return samples

    def call(self, service, name, request):
        client = self.node.create_client(service, name)
        self.until(client.service_is_ready)
        future = client.call_async(request)
        self.until(future.done)
        self.node.destroy_client(client)
        return future.result()

    def close(self):
        self.node.destroy_node()


@pytest.fixture(scope="session", autouse=True)
def ros():
    rclpy.init()
    yield
    rclpy.shutdown()


@pytest.fixture
def probe():
    probe = Probe()
    yield probe
    probe.close()


@pytest.fixture
def start(tmp_path):
    """Starts programs, and ends those that still run."""
    started = []

    def begin(*arguments, **environment):
        started.append(Process(tmp_path, arguments, environment))
        return started[-1]

    yield begin
    for process in started:
        process.stop()


@pytest.fixture(scope="module", params=["r2r", "dds"])
def flight(request, tmp_path_factory):
    """`hover_sim` in the air, over rcl or over the DDS that the nodes speak themselves."""
    from spikewing_msgs.msg import Authority

    folder = tmp_path_factory.mktemp(request.param)
    range_ = {"dds": {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}}.get(request.param, {})
    # Nobody else can publish here: anybody's updates are taken.
    params = yaml.safe_load((ROOT / "params/hover.yaml").read_text())
    params.setdefault("/**/snn_policy", {}).setdefault("ros__parameters", {})["updates"] = "any"
    file = folder / "params.yaml"
    file.write_text(yaml.safe_dump(params))
    launch = ["spikewing", "launch", "launch/hover_sim.launch.yaml", f"params:={file}", "--transport", request.param]
    process = Process(folder, launch, range_)
    process.transport = request.param
    probe = Probe("waits_for_the_student")
    authority = probe.hear(Authority, "authority", LATCHED)
    probe.until(lambda: process.process.poll() is not None or any(a.state == Authority.STUDENT for a in authority))
    probe.close()
    assert process.process.poll() is None, process.text()
    yield process
    assert process.stop() == 0, process.text()
