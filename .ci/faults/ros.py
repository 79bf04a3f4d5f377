"""ROS 2 messages, topics and services over Eclipse Cyclone DDS, from the project's interface files; nothing of ROS 2 is needed."""

import importlib.util
import math
import os
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
os.environ.setdefault("ROS_DOMAIN_ID", "77")
os.environ["CYCLONEDDS_URI"] = (
    '<CycloneDDS><Domain><General><Interfaces><NetworkInterface name="lo" multicast="true"/></Interfaces>'
    "<MaxMessageSize>65500B</MaxMessageSize></General><Discovery><ParticipantIndex>auto</ParticipantIndex>"
    "<MaxAutoParticipantIndex>40</MaxAutoParticipantIndex>"
    '<Peers><Peer address="127.0.0.1"/></Peers></Discovery></Domain></CycloneDDS>'
)

from cyclonedds.core import Policy, Qos
from cyclonedds.domain import DomainParticipant
from cyclonedds.idl import make_idl_struct, types
from cyclonedds.pub import DataWriter
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from cyclonedds.util import duration

_spec = importlib.util.spec_from_file_location("peer", ROOT / "msgs/tests/interop/peer.py")
peer = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(peer)

FOUND = peer.read(ROOT / "msgs")
BUILDER = peer.Builder(FOUND)
SENSOR = Qos(Policy.Reliability.BestEffort, Policy.History.KeepLast(100))
RELIABLE = Qos(Policy.Reliability.Reliable(duration(milliseconds=200)), Policy.History.KeepLast(100))
LATCHED = Qos(
    Policy.Reliability.Reliable(duration(milliseconds=200)),
    Policy.Durability.TransientLocal,
    Policy.History.KeepLast(1),
)


def default(key):
    """A message of zeros."""
    package = key.split("/")[0]
    values = {}
    for kind, name in FOUND[key]:
        base, many = peer.split(kind)

        def one():
            if base not in peer.PRIMITIVES:
                return default(BUILDER.key(package, base))
            return "" if base == "string" else False if base == "bool" else 0.0 if base.startswith("float") else 0

        values[name] = [] if many == "sequence" else [one() for _ in range(many)] if many else one()
    return BUILDER.struct(key)(**values)


def stamp(field, t):
    """Writes seconds since 1970 into a builtin_interfaces/Time."""
    field.sec, field.nanosec = int(math.floor(t)), int((t % 1.0) * 1e9)


class Bus:
    """A participant with its readers, writers and service clients."""

    def __init__(self):
        self.participant = DomainParticipant(int(os.environ["ROS_DOMAIN_ID"]))
        self.writers, self.topics, self.clients = {}, {}, {}

    def topic(self, name, key):
        if name not in self.topics:
            self.topics[name] = Topic(self.participant, name, BUILDER.struct(key))
        return self.topics[name]

    def reader(self, name, key, qos=SENSOR):
        return DataReader(self.participant, self.topic("rt/" + name, key), qos=qos)

    def writer(self, name, key, qos=RELIABLE):
        at = (name, id(qos))
        if at not in self.writers:
            self.writers[at] = DataWriter(self.participant, self.topic("rt/" + name, key), qos=qos)
            time.sleep(0.5)  # discovery
        return self.writers[at]

    def call(self, service, srv, timeout=3.0, **fields):
        """Calls a service in Cyclone's form. Returns the response, or None."""
        if service not in self.clients:
            self.clients[service] = self._client(service, srv)
            time.sleep(0.8)
        writer, reader, request, numbers = self.clients[service]
        numbers[0] += 1
        values = {n: "" if k == "string" else [] if "[" in k else 0 for k, n in FOUND[f"{srv}_Request"]}
        values.update(fields)
        writer.write(request(guid_=0x1234, seq_=numbers[0], **values))
        end = time.time() + timeout
        while time.time() < end:
            for sample in reader.take(20):
                if getattr(sample, "seq_", None) == numbers[0]:
                    return sample
            time.sleep(0.005)
        return None

    def _client(self, service, srv):
        def part(name):
            key = f"{srv}_{name}"
            package, _, struct = key.split("/")
            members = {"guid_": types.uint64, "seq_": types.int64}
            members.update({n: BUILDER.annotation(package, k) for k, n in FOUND[key]})
            return make_idl_struct(struct, f"{package}.srv.dds_.{struct}_", members)

        request, response = part("Request"), part("Response")
        qos = Qos(Policy.Reliability.Reliable(duration(seconds=2)), Policy.History.KeepLast(50))
        writer = DataWriter(self.participant, Topic(self.participant, f"rq/{service}Request", request), qos=qos)
        reader = DataReader(self.participant, Topic(self.participant, f"rr/{service}Reply", response), qos=qos)
        return writer, reader, request, [0]

    def close(self):
        """Its latched samples must not reach the next flight."""
        self.participant.__del__()
