"""Subword tokenisers, compared with sentencepiece, and in a run directory."""
import io
import json

import pytest
from text.vocabulary import SPECIALS, UNK, Vocabulary
from text import subwords
from command_line import UserError
from settings import resolve_settings
from test_commands import one_line, run, write_pairs
from text.tokenizers import build_tokenizers

import sentencepiece

TEXTS = ['low lower lowest', 'new newer newest', 'wide wider widest', 'the lowest of the new', '我 爱 北京 天安门'] * 3
STRANGE = ['lowest', 'Ω', 'new 😀 wide', '  the\tnew ', 'z', '北海 new', 'widenewlow', 'é̈', '']


def model(kind, size=330, texts=TEXTS):
    return subwords.SubwordTokenizer.from_bytes(subwords.train(texts, kind, size), 'm')


@pytest.mark.parametrize('kind', subwords.KINDS)
def test_pieces_are_those_of_sentencepiece(kind):
    ours, stream = model(kind), io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS), model_writer=stream, model_type=kind, vocab_size=len(ours.pieces) + 1,
        character_coverage=1., byte_fallback=True, normalization_rule_name='identity', num_threads=1,
        hard_vocab_limit=False, unk_id=0, bos_id=-1, eos_id=-1, pad_id=-1, minloglevel=2)
    theirs = sentencepiece.SentencePieceProcessor(model_proto=stream.getvalue())
    assert sorted(ours.pieces) == sorted(theirs.id_to_piece(i) for i in range(1, len(theirs)))
    for text in TEXTS + [' '.join(text.split()) for text in STRANGE]:
        assert ours.tokenize(text) == theirs.encode(text, out_type=str), text
    assert any(len(piece) > 2 for piece in ours.tokenize('lowest'))


@pytest.mark.parametrize('kind', subwords.KINDS)
def test_nothing_is_unknown_and_only_spaces_change(kind):
    one = model(kind)
    vocabulary = Vocabulary(SPECIALS + one.pieces)
    for text in STRANGE + ['a ▁b ▁▁', '<unk> <s> <0x41> <pad>']:
        tokens = one.tokenize(text)
        assert one.detokenize(tokens) == ' '.join(text.split())
        assert UNK not in vocabulary.encode(tokens)
    assert one.detokenize(['<0xE4>', '▁low', '<0x0A>', 'e']) == '\ufffd low e'  # whatever comes, it is one line


@pytest.mark.parametrize('kind', subwords.KINDS)
def test_training_repeats(kind):
    assert subwords.train(TEXTS, kind, 300) == subwords.train(TEXTS, kind, 300)


def test_a_text_may_look_like_special_pieces():
    one = model('bpe', 400, ['x</s> y<unk> <pad>'] * 9)
    Vocabulary(SPECIALS + one.pieces)
    assert one.detokenize(one.tokenize('x</s> <pad>')) == 'x</s> <pad>'


def test_a_size_too_small_is_refused_and_one_too_large_is_not_reached():
    with pytest.raises(UserError, match='bpe vocabulary of 260 pieces is too small for the .* characters .*--source'):
        model('bpe', 260)
    for kind in subwords.KINDS:
        assert 256 < len(model(kind, 9000).pieces) < 400


@pytest.mark.parametrize('content, told', [
    (b'', 'not UTF-8 text of whole lines'),
    (b'bpe\n', 'not a whole'), (b'bpe\na\t-1', 'not a whole'), (b'other\na\t-1\n', 'kind'),
    (b'\xff\n', 'UTF-8'), (b'bpe\na\t-1\na\t-2\n', 'line 3'), (b'bpe\na\n', 'line 2'), (b'bpe\n\t1\n', 'line 2'),
    (b'unigram\na\tnan\n', 'line 2'), (b'bpe\na b\t1\n', 'line 2'), (b'bpe\n<s>\t1\n', 'line 2'),
    (b'bpe\n<0x41>\t1\n', 'line 2')])
def test_an_invalid_model_is_refused_by_file_and_line(content, told):
    with pytest.raises(UserError, match='^x/m: .*' + told):
        subwords.SubwordTokenizer.from_bytes(content, 'x/m')


def test_one_model_serves_both_sides_of_a_shared_vocabulary():
    settings = resolve_settings(dict(source_tokenizer='bpe', target_tokenizer='bpe', share_vocabulary=True,
                                     source_vocabulary=330))
    made, models = build_tokenizers(settings, lambda: [(text, text.upper()) for text in TEXTS])
    assert models['tokenizer.source.model'] == models['tokenizer.target.model']
    assert len(made[0].tokenize('LOWEST lowest')) < 12


@pytest.mark.slow
def test_a_run_keeps_its_model_and_refuses_a_damaged_one(tmp_path):
    write_pairs(tmp_path / 'a', [(text, text.split()[-1]) for text in TEXTS])
    result = run('train.py', '--train', 'a', '--val', 'a', '--test', 'a', '--run', 'r', '--epochs', '2', '--units', '8',
                 '--embedding', '8', '--threads', '1', '--source-tokenizer', 'unigram', '--target-tokenizer', 'bpe',
                 '--source-vocabulary', '320', '--target-vocabulary', '320', cwd=tmp_path)
    assert result.code == 0, result.stderr
    hashes = json.loads((tmp_path / 'r' / 'manifest.json').read_text())['files']
    assert {'tokenizer.source.model', 'tokenizer.target.model'} <= set(hashes)
    result = run('train.py', '--train', 'a', '--val', 'a', '--test', 'a', '--run', 'r', '--resume', '--epochs', '3',
                 cwd=tmp_path)
    assert result.code == 0, result.stderr
    result = run('predict.py', '--run', 'r', '--input', '-', cwd=tmp_path, text='Ω low\n\n'.encode('utf-8'))
    assert (result.code, result.stdout.count(b'\n'), b'<unk>' in result.stdout) == (0, 2, False)
    result = run('export.py', 'r', 'e', cwd=tmp_path)
    assert result.code == 0 and 'reads and writes tokens' in result.stderr
    path = tmp_path / 'r' / 'tokenizer.source.model'
    path.write_bytes(path.read_bytes().replace(b'\t-', b'\t--', 1))
    one_line(run('predict.py', '--run', 'r', '--input', '-', cwd=tmp_path), 'predict.py', 'tokenizer.source.model',
             'hash')
