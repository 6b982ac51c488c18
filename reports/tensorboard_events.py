"""Event files for TensorBoard, made in memory: TensorFlow's own writer appends, but a run's files are written whole.

An event file is a TFRecord file (https://www.tensorflow.org/guide/data#tfrecord) of `Event` messages.
"""
import struct

import tf_session  # noqa: F401  first: it fixes the import order
import tensorflow as tf
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import summary as custom_scalar


def pack_events(step, wall_time, scalars=None, texts=None, images=None):
    """Makes an event file for one step.

    # Arguments
        wall_time: seconds since 1970.
        scalars: dict of name to number. The tab "Custom Scalars" has train_NAME and val_NAME in one chart.
        texts: dict of name to Markdown.
        images: dict of name to the bytes of a PNG file.

    # Returns
        The bytes of the file.
    """
    values = [tf.Summary.Value(tag=name, simple_value=number) for name, number in (scalars or {}).items()
              if name != 'seconds']  # TensorBoard has a time axis
    text_plugin = tf.SummaryMetadata(plugin_data=tf.SummaryMetadata.PluginData(plugin_name='text'))
    values += [tf.Summary.Value(tag=name, metadata=text_plugin, tensor=tf.make_tensor_proto(text.encode('utf-8')))
               for name, text in (texts or {}).items()]
    for name, png in (images or {}).items():
        width, height = struct.unpack('>II', png[16:24])
        values.append(tf.Summary.Value(tag=name, image=tf.Summary.Image(
            width=width, height=height, colorspace=4, encoded_image_string=png)))
    if scalars:
        values.extend(custom_scalar.pb(_charts(scalars)).value)
    events = [tf.Event(wall_time=wall_time, file_version='brain.Event:2'),
              tf.Event(wall_time=wall_time, step=step, summary=tf.Summary(value=values))]
    return b''.join(_record(event.SerializeToString()) for event in events)


def _charts(names):
    """The layout of the tab "Custom Scalars": a chart for each measure, training and validation together."""
    measures = sorted({name.split('_', 1)[1] for name in names if name.startswith(('train_', 'val_'))})
    charts = [layout_pb2.Chart(title=measure.replace('_', ' '), multiline=layout_pb2.MultilineChartContent(
        tag=['^(train|val)_%s$' % measure])) for measure in measures]
    return layout_pb2.Layout(category=[layout_pb2.Category(title='training and validation', chart=charts)])


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
    """The masked CRC-32C (Castagnoli) of the TFRecord format: rotated by 15 bits, plus a constant."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC32C[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return struct.pack('<I', ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
