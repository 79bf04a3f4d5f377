"""The foreign side of the interoperability test: Eclipse Cyclone DDS's own Python serialiser.

peer.py make MSGS_DIR OUT        writes a line of JSON per message type: type, CDR bytes (hex), values
peer.py check MSGS_DIR OUT BACK  reads the other side's bytes of the same messages and compares field for field
peer.py live MSGS_DIR TYPES      exchanges a message of each type over topics with a node that sends back what it gets;
                                 TYPES is JSON: [[type, ROS type, topic out, topic back], ...]

The types are built from the same .msg and .srv files, by this parser and not by the project's.
"""

import json
import os
import random
import re
import sys
import time
from pathlib import Path

from cyclonedds.idl import make_idl_struct, types

PRIMITIVES = {
    "bool": bool, "byte": types.uint8, "uint8": types.uint8, "int8": types.int8, "uint16": types.uint16,
    "int16": types.int16, "uint32": types.uint32, "int32": types.int32, "uint64": types.uint64,
    "int64": types.int64, "float32": types.float32, "float64": types.float64, "string": str,
}


def read(root):
    """Package/folder/Name -> list of (kind, name); nested packages found by name."""
    found = {}
    places = [("spikewing_msgs", root)] + [(p.name, p) for p in sorted((root / "interfaces").iterdir())]
    for package, place in places:
        for path in sorted(place.glob("msg/*.msg")):
            found[f"{package}/msg/{path.stem}"] = fields(path.read_text())
        for path in sorted(place.glob("srv/*.srv")):
            request, response = re.split(r"^---\s*$", path.read_text(), flags=re.M)
            found[f"{package}/srv/{path.stem}_Request"] = fields(request)
            found[f"{package}/srv/{path.stem}_Response"] = fields(response)
    return found


def fields(text):
    result = []
    for line in text.splitlines():
        code = line.split("#")[0].strip()
        if code and not re.match(r"\S+\s+\w+\s*=", code):
            kind, name = code.split()[:2]
            result.append((kind, name))
    return result or [("uint8", "structure_needs_at_least_one_member")]


def split(kind):
    match = re.fullmatch(r"(.*)\[(<=)?(\d*)\]", kind)
    if not match:
        return kind, None
    return match[1], ("sequence" if match[2] or not match[3] else int(match[3]))


class Builder:
    def __init__(self, found):
        self.found, self.made = found, {}

    def key(self, package, kind):
        return f"{kind.split('/')[0]}/msg/{kind.split('/')[1]}" if "/" in kind else f"{package}/msg/{kind}"

    def struct(self, key, ros_type=None):
        """The struct of an interface file; ROS types that two releases lay out differently have two files."""
        if key not in self.made:
            package, folder, name = (ros_type or key).split("/")
            members = {n: self.annotation(package, k) for k, n in self.found[key]}
            typename = f"{package}.{folder}.dds_.{name}_"
            self.made[key] = make_idl_struct(name, typename, members)
        return self.made[key]

    def annotation(self, package, kind):
        base, many = split(kind)
        inner = PRIMITIVES.get(base) or self.struct(self.key(package, base))
        if many == "sequence":
            return types.sequence[inner]
        return types.array[inner, many] if many else inner

    def value(self, package, kind, rng):
        """A value and its JSON."""
        base, many = split(kind)
        if many:
            pairs = [self.value(package, base, rng) for _ in range(3 if many == "sequence" else many)]
            return [p[0] for p in pairs], [p[1] for p in pairs]
        if base not in PRIMITIVES:
            return self.sample(self.key(package, base), rng)
        if base == "bool":
            v = rng.random() < 0.5
        elif base == "string":
            v = "".join(rng.choice("abc äöü/_ 012") for _ in range(rng.randrange(9)))
        elif base.startswith("float"):
            v = rng.randrange(-4000, 4000) / 8.0
        else:
            bits = 8 if base == "byte" else int(base.lstrip("uint"))
            signed = base.startswith("int")
            low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
            v = rng.randrange(low, high)
        return v, v

    def sample(self, key, rng):
        package = key.split("/")[0]
        values, plain = {}, {}
        for kind, name in self.found[key]:
            values[name], plain[name] = self.value(package, kind, rng)
        return self.struct(key)(**values), plain


def plain(value):
    if hasattr(value, "__dataclass_fields__"):
        return {n: plain(getattr(value, n)) for n in value.__dataclass_fields__}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, (bytes, bytearray)):
        return list(value)
    return value


def live(builder, exchanged):
    from cyclonedds.core import Policy, Qos
    from cyclonedds.domain import DomainParticipant
    from cyclonedds.pub import DataWriter
    from cyclonedds.sub import DataReader
    from cyclonedds.topic import Topic
    from cyclonedds.util import duration

    participant = DomainParticipant(int(os.environ.get("ROS_DOMAIN_ID", "0")))
    qos = Qos(Policy.Reliability.Reliable(duration(seconds=1)), Policy.History.KeepLast(5))
    rng = random.Random(2)
    waiting = {}
    for key, ros_type, out, back in exchanged:
        struct = builder.struct(key, ros_type)
        writer = DataWriter(participant, Topic(participant, out, struct, qos=qos))
        reader = DataReader(participant, Topic(participant, back, struct, qos=qos))
        waiting[key] = (writer, reader, *builder.sample(key, rng))
    end = time.monotonic() + 60
    while waiting:
        if time.monotonic() > end:
            sys.exit(f"no answer in 60 s for {', '.join(sorted(waiting))}")
        for writer, _, message, _ in waiting.values():
            writer.write(message)
        time.sleep(0.3)
        for key, (_, reader, _, values) in list(waiting.items()):
            for sample in reader.take(5):
                # Notices of writers that go are samples without fields.
                got = plain(sample)
                if not isinstance(got, dict):
                    continue
                if got != values:
                    sys.exit(f"{key}: sent {values}\n got {got}")
                waiting.pop(key, None)
    print(f"{len(exchanged)} types went over the wire and came back the same")


def main():
    command, root = sys.argv[1], Path(sys.argv[2])
    builder = Builder(read(root))
    if command == "live":
        live(builder, json.loads(sys.argv[3]))
        return
    if command == "make":
        rng = random.Random(1)
        with open(sys.argv[3], "w") as out:
            for key in builder.found:
                message, values = builder.sample(key, rng)
                out.write(json.dumps({"type": key, "cdr": message.serialize().hex(), "values": values}) + "\n")
        return
    sent = [json.loads(line) for line in open(sys.argv[3])]
    back = {m["type"]: m["cdr"] for m in map(json.loads, open(sys.argv[4]))}
    for message in sent:
        key = message["type"]
        got = plain(builder.struct(key).deserialize(bytes.fromhex(back[key])))
        if got != message["values"]:
            sys.exit(f"{key}: sent {message['values']}\n got {got}")
    print(f"{len(sent)} types agree both ways")


if __name__ == "__main__":
    main()
