"""One node inside a real ROS 2, without a flight."""

import subprocess
import time

from conftest import LATCHED, ROOT
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry
from rcl_interfaces.srv import ListParameters
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from spikewing_msgs.msg import PolicyUpdate

STUDENT = "policies/crazyflie/student.safetensors"


def test_names_and_namespaces(start, probe):
    arguments = "--ros-args -r __ns:=/drone_0 -r __node:=pilot -r setpoint:=/goal -e /drone_0"
    start("guide_policy", *arguments.split()).waits_for("up inside ROS 2")
    probe.until(lambda: ("pilot", "/drone_0") in probe.node.get_node_names_and_namespaces())
    probe.until(lambda: probe.node.get_publishers_info_by_topic("/drone_0/guide/command"))
    probe.until(lambda: probe.node.get_subscriptions_info_by_topic("/drone_0/odometry"))
    names = probe.call(ListParameters, "/drone_0/pilot/list_parameters", ListParameters.Request()).result.names
    assert "controller" in names


def test_a_publisher_that_is_not_heard_is_named(start, probe):
    node = start("snn_policy", "--ros-args", "-p", f"policy_file:={ROOT / STUDENT}")
    node.waits_for("up inside ROS 2")
    volatile = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
    probe.node.create_publisher(PolicyUpdate, "policy/update", volatile)
    node.waits_for("/probe is not heard: it publishes volatile")


def test_every_input_takes_what_rclpy_publishes(start, probe):
    """A publisher as the page of topics wants it is matched, and its samples are read without complaint."""
    from rosidl_runtime_py_free import message_class

    nodes = {
        name: start(name, "--ros-args", *(["-p", f"policy_file:={ROOT / STUDENT}"] if name == "snn_policy" else []))
        for name in ("px4_bridge", "state_estimator", "guide_policy", "snn_policy", "supervisor", "simulator")
    }
    for node in nodes.values():
        node.waits_for("up inside ROS 2")
    inputs = {}
    for line in (ROOT / "msgs/TOPICS.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 8 and "/msg/" in cells[2] and any(name in cells[5] for name in nodes):
            inputs.setdefault(cells[1].strip("`"), (cells[2], cells[6]))
    matched, unmatched = 0, []
    for name, (kind, qos) in inputs.items():
        profile = LATCHED if "transient local" in qos else QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
        publisher = probe.node.create_publisher(message_class(kind), name, profile)
        try:
            probe.until(lambda: publisher.get_subscription_count() > 0, 5)
        except AssertionError:
            unmatched.append(name)
            continue
        publisher.publish(message_class(kind)())
        matched += 1
    end = time.monotonic() + 0.5
    probe.until(lambda: time.monotonic() > end)
    # A release of PX4 that is not the installed one is not listened to.
    assert all("fmu/out" in name for name in unmatched), unmatched
    assert matched >= 12, (matched, unmatched)
    for name, node in nodes.items():
        assert "ignored a sample" not in node.text(), f"{name}: {node.text()}"


def test_messages_of_another_release_are_refused(start, tmp_path):
    library = tmp_path / "definition.so"
    source = ROOT / "crates/spikewing/tests/ros2/definition.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    node = start("px4_bridge", LD_PRELOAD=str(library))
    assert node.process.wait(30) != 0
    text = node.text()
    for words in ("vehicle_odometry", "is installed where", "branch of px4_msgs"):
        assert words in text, text


def test_fast_dds_as_the_user_wants_it(start, tmp_path):
    """Profiles of the user's own are left alone."""
    profiles = tmp_path / "profiles.xml"
    profiles.write_text((ROOT / "crates/runtime/src/r2r/fast_dds.xml").read_text())
    for environment in ({}, {"FASTRTPS_DEFAULT_PROFILES_FILE": str(profiles)}):
        node = start("guide_policy", **environment)
        node.waits_for("up inside ROS 2")
        with open(f"/proc/{node.process.pid}/maps") as maps:
            assert "/dev/shm/fastrtps_" not in maps.read(), "no shared memory"
        node.stop()
    node = start("guide_policy", FASTDDS_BUILTIN_TRANSPORTS="DEFAULT")
    node.waits_for("up inside ROS 2")
    with open(f"/proc/{node.process.pid}/maps") as maps:
        assert "/dev/shm/fastrtps_" in maps.read(), "the user's shared memory"
