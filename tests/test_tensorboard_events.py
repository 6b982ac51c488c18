import struct

from reports import plots
from reports import tensorboard_events

import numpy as np
import tensorflow as tf


def test_tensorflow_reads_back_what_was_packed(tmp_path):
    png = plots.alignment_png(['a', 'b'], ['c'], np.array([[0.25, 0.75]]))
    path = tmp_path / 'events.out.tfevents.0000000007'
    path.write_bytes(tensorboard_events.pack_events(7, 1.5e9, {'val_perplexity': 3.25, 'rate': 1e-3},
                                                    {'samples': '| 一 | b |'}, {'alignment/1': png}))
    first, second = tf.train.summary_iterator(str(path))  # checks lengths and sums
    assert first.file_version == 'brain.Event:2'
    assert (second.step, second.wall_time) == (7, 1.5e9)
    values = {value.tag: value for value in second.summary.value}
    assert values['val_perplexity'].simple_value == 3.25 and abs(values['rate'].simple_value - 1e-3) < 1e-9
    assert values['samples'].metadata.plugin_data.plugin_name == 'text'
    assert tf.make_ndarray(values['samples'].tensor).item() == '| 一 | b |'.encode('utf-8')
    image = values['alignment/1'].image
    assert image.encoded_image_string == png
    assert (image.width, image.height) == struct.unpack('>II', png[16:24]) and image.width > 50


def test_tensorboard_shows_the_files_of_a_folder_as_one_run(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    for step in (2, 10, 30):
        name = 'events.out.tfevents.%010d' % step
        (tmp_path / name).write_bytes(tensorboard_events.pack_events(step, 1e9 + step, {'score': step / 2.}))
    board = EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in board.Scalars('score')] == [(2, 1.), (10, 5.), (30, 15.)]


def test_the_checksum_is_the_one_of_rfc_3720():
    for data, crc in ((bytes(32), 0x8A9136AA), (b'\xff' * 32, 0x62A8AB43), (bytes(range(32)), 0x46DD794E)):
        masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
        assert tensorboard_events._checksum(data) == struct.pack('<I', masked)


def test_training_and_validation_share_a_chart_and_seconds_are_left_out(tmp_path):
    from tensorboard.plugins.custom_scalar import layout_pb2
    path = tmp_path / 'events.out.tfevents.0000000007'
    path.write_bytes(tensorboard_events.pack_events(7, 1.5e9, {
        'train_perplexity': 4., 'val_perplexity': 3., 'val_bleu': 2., 'learning_rate': .1, 'seconds': 9.}))
    values = {value.tag: value for event in tf.train.summary_iterator(str(path)) for value in event.summary.value}
    assert 'seconds' not in values and values['learning_rate'].simple_value == np.float32(.1)
    layout = layout_pb2.Layout.FromString(tf.make_ndarray(values['custom_scalars__config__'].tensor).item())
    assert [(chart.title, list(chart.multiline.tag)) for chart in layout.category[0].chart] == [
        ('bleu', ['^(train|val)_bleu$']), ('perplexity', ['^(train|val)_perplexity$'])]
