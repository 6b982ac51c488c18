"""Measures the memory of searches beside the estimate that `translator.py` makes, each in a separate process.

    python benchmarks/search_memory.py                          # the table of docs/performance.md
    python benchmarks/search_memory.py 5,330,20,50,32,general   # one search: K, V, S, T, B, N of
                                                                # --no-repeat-ngram, score

The peak is that of the resident memory while one batch is searched, less what the process had after a search of a
single short sentence with the same graph.
"""
import argparse
import multiprocessing
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import settings  # noqa: E402  the checkout is on the path now

CASES = ('1,330,500,20,256,0,general', '1,330,500,20,256,0,concat', '1,30000,20,4,2000,0,general',
         '1,30000,20,4,2000,2,general', '5,330,20,50,256,0,general', '10,330,500,20,32,0,concat',
         '10,330,500,200,32,0,general', '50,330,20,50,64,0,general', '50,330,500,20,32,0,concat',
         '50,30000,20,4,64,0,general', '50,30000,20,4,64,2,general', '50,30000,20,4,64,0,copy',
         '200,330,20,50,32,0,general')


def resident(name):
    """VmRSS or VmHWM (the peak) of this process in MB."""
    with open('/proc/self/status') as stream:
        return next(int(line.split()[1]) for line in stream if line.startswith(name)) / 1024.


def measure(case, queue):
    """Puts the estimate and the measured peak in MB."""
    import tf_session
    from keras import backend as K
    import numpy as np
    from search_options import Options
    from seq2seq_model import Seq2Seq
    from text.tokenizers import make_tokenizer
    from text.vocabulary import SPECIALS, Vocabulary
    from decoding import ensemble
    from translator import Translator
    *sizes, score = case.split(',')
    width, words, source, target, batch, ngram = map(int, sizes)
    config = settings.resolve_settings(dict(threads=1, **({'copy': True} if score == 'copy' else {'score': score})))
    vocabulary = Vocabulary(list(SPECIALS) + ['w%d' % i for i in range(words - len(SPECIALS))])
    options = Options(beam_width=width, min_length=target, max_length=target, no_repeat_ngram=ngram)
    random, opened = np.random.RandomState(1), tf_session.new_session(1)
    with tf_session.opened(opened):
        model = Seq2Seq(config, words, words)
        K.get_session()  # initialises the weights
        model.freeze_for_inference()
        translator = Translator(model, opened, *2 * [(make_tokenizer('space'), vocabulary)])
        sources = [['w%d' % i for i in random.randint(0, words - len(SPECIALS), source)] for _ in range(batch)]
        translator._search([['w1']], [1], options)
        with open('/proc/self/clear_refs', 'w') as stream:
            stream.write('5')  # the peak begins anew
        before = resident('VmRSS')
        translator._search(sources, [target] * batch, options)
        estimate = batch * ensemble.sentence_bytes(options, words, source, target, **ensemble.search_sizes(model))
        queue.put((estimate / 2. ** 20, resident('VmHWM') - before))


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('cases', nargs='*', default=CASES, metavar='K,V,S,T,B,N,SCORE')
    context = multiprocessing.get_context('spawn')
    print('%5s %6s %4s %4s %5s %2s  %-8s %9s %9s  %s' % (*'KVSTBN', 'score', 'estimate', 'peak', 'ratio'))
    for case in parser.parse_args(argv).cases:
        queue = context.SimpleQueue()
        process = context.Process(target=measure, args=(case, queue))
        process.start()
        process.join()
        if process.exitcode:
            return '%s: ended with %d' % (case, process.exitcode)
        estimate, peak = queue.get()
        print('%5s %6s %4s %4s %5s %2s  %-8s %6.0f MB %6.0f MB  %.2f' % (
            *case.split(','), estimate, peak, estimate / peak), flush=True)


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
