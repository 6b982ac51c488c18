"""The comparison of Luong's variants: settings that fit, resumed plans, a table that is that of the measured lines."""
import collections
import json
import os
import sys

import pytest

from test_commands import ROOT
import settings

sys.path.insert(0, os.path.join(str(ROOT), 'benchmarks'))
try:
    import variants
    import variants_report
finally:
    del sys.path[0]


def test_every_variant_is_a_valid_run_that_differs_from_the_others_in_attention_alone():
    chosen = {name: settings.resolve_settings(dict(variants.SHARED, **given))
              for name, given in variants.variants().items()}
    for one in chosen.values():
        settings.check(one)
    differing = {key for one in chosen.values() for key, value in vars(one).items()
                 if value != vars(chosen['none'])[key]}
    assert differing == {'score', 'attention', 'window', 'input_feeding'}
    kinds = {(one.score, one.attention, one.input_feeding) for one in chosen.values()}
    assert len(kinds) == len(chosen) == 15  # eight, and seven of them with input feeding
    assert set(variants.MAIN) < set(chosen) and set(variants_report.ORDER) == set(chosen)


def test_options_give_the_settings_back():
    given = dict(variants.SHARED, attention='local-p', window=5, input_feeding=True)
    from train import parse
    assert parse(variants.options_of(given)).given == given


def test_runs_that_the_file_has_are_skipped_and_only_main_variants_have_a_second_seed(tmp_path, monkeypatch):
    path = tmp_path / 'found.jsonl'
    path.write_text(json.dumps({'variant': 'none', 'seed': 1, 'budget': '1 epochs'}) + '\n')
    trained = []
    monkeypatch.setattr(variants, 'train', lambda name, seed, options: (trained.append((name, seed)), 0.))
    monkeypatch.setattr(variants, 'record', lambda name, seed, path, peak, options: {
        'variant': name, 'seed': seed, 'budget': variants.budget(options)})
    options = variants.parse(['--corpus', 'm', '--json', str(path), '--variants', 'none', 'dot', 'location'])
    variants.train_all(options)
    variants.train_all(options)
    assert trained == [('dot', 1), ('location', 1), ('none', 2), ('dot', 2)]


def test_bands_are_those_of_evaluate():
    found = collections.OrderedDict([('lines of up to 8', 3), ('BLEU of up to 8', 20.), ('perplexity of up to 8', 4.),
                                     ('lines of over 8', 0)])
    assert variants.bands(found) == [
        {'label': 'up to 8', 'lines': 3, 'bleu': 20., 'perplexity': 4.},
        {'label': 'over 8', 'lines': 0, 'bleu': None, 'perplexity': None}]


def test_the_table_of_the_page_is_that_of_the_measured_lines():
    if not os.path.exists(os.path.join(str(ROOT), 'docs', 'variants.jsonl')):
        pytest.skip('no measured lines')
    with open(variants_report.PAGE, encoding='utf-8') as stream:
        text = stream.read()
    assert variants_report.with_section(text) == text, 'run benchmarks/variants_report.py'
    assert text.count(variants_report.BEGIN) == text.count(variants_report.END) == 1
