"""Files for TensorBoard, made in memory: a run's files are written whole, which TensorFlow's own writer does not do.

A file is a TFRecord file (https://www.tensorflow.org/guide/data#tfrecord) of `Event` messages.
"""
import struct

import tf_session  # noqa: F401  first: it fixes the import order
import tensorflow as tf


def pack_events(step, wall_time, scalars=None, texts=None, images=None):
    """The bytes of an event file with what was found at `step`.

    # Arguments
        wall_time: seconds since 1970.
        scalars: dict of name -> number. texts: dict of name -> Markdown. images: dict of name -> bytes of a PNG file.
    """
    values = [tf.Summary.Value(tag=name, simple_value=number) for name, number in (scalars or {}).items()]
    text_plugin = tf.SummaryMetadata(plugin_data=tf.SummaryMetadata.PluginData(plugin_name='text'))
    values += [tf.Summary.Value(tag=name, metadata=text_plugin, tensor=tf.make_tensor_proto(text.encode('utf-8')))
               for name, text in (texts or {}).items()]
    for name, png in (images or {}).items():
        width, height = struct.unpack('>II', png[16:24])
        values.append(tf.Summary.Value(tag=name, image=tf.Summary.Image(
            width=width, height=height, colorspace=4, encoded_image_string=png)))
    events = [tf.Event(wall_time=wall_time, file_version='brain.Event:2'),
              tf.Event(wall_time=wall_time, step=step, summary=tf.Summary(value=values))]
    return b''.join(_record(event.SerializeToString()) for event in events)


def _record(data):
    length = struct.pack('<Q', len(data))
    return length + _checksum(length) + data + _checksum(data)


def _table():
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        yield value


_CRC32C = list(_table())


def _checksum(data):
    """CRC-32C (Castagnoli), turned and shifted as TFRecord files have it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC32C[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return struct.pack('<I', ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
