"""Reads a bag with two foreign libraries and prints what they found."""

import sys
from pathlib import Path

from mcap.exceptions import EndOfFile
from mcap.reader import NonSeekingReader, SeekingReader
from mcap_ros2.decoder import DecoderFactory

path, how, types = sys.argv[1], sys.argv[2], int(sys.argv[3])


def leaves(value):
    """Touches every field, so that a wrong definition shows."""
    slots = getattr(value, "__slots__", None)
    if slots:
        return sum(leaves(getattr(value, s)) for s in slots)
    if isinstance(value, (list, tuple)):
        return sum(map(leaves, value)) + 1
    return 1


found = {}
with open(path, "rb") as stream:
    reader = NonSeekingReader if how == "cut" else SeekingReader
    reader = reader(stream, validate_crcs=True, decoder_factories=[DecoderFactory()])
    if how == "whole":
        assert reader.get_header().profile == "ros2"
        assert reader.get_summary().statistics.message_count > 0
    try:
        for schema, channel, message, decoded in reader.iter_decoded_messages():
            assert leaves(decoded) > 0
            found[schema.name] = found.get(schema.name, 0) + 1
    except EndOfFile:
        assert how == "cut"
print(f"mcap-ros2-support: {sum(found.values())} messages of {len(found)} types", end="; ")
if how == "whole" and "mended" not in path:
    assert len(found) == types, (len(found), types)

if how == "whole":
    from rosbags.highlevel import AnyReader
    from rosbags.typesys import Stores, get_typestore

    with AnyReader([Path(path)], default_typestore=get_typestore(Stores.EMPTY)) as reader:
        count = 0
        for connection, stamp, data in reader.messages():
            assert reader.deserialize(data, connection.msgtype) is not None
            count += 1
    assert count == sum(found.values()), (count, found)
    print(f"rosbags: {count} messages")
