"""The web application: translation, health, metrics, the description of its interface, and the page."""
import argparse
import collections
import concurrent.futures
import hmac
import ipaddress
import json
import os
import time
import urllib.parse

import flask
import numpy as np
import prometheus_client
from werkzeug.exceptions import HTTPException

import beam_search
import search_options
from command_line import UserError, VERSION
from reports.alignment_page import EAST_ASIAN_RANGE, PAGE_SCRIPTS, PAGE_STYLES, fill_template, read_part
from reports.label_fonts import BUNDLED_FONT
from reports.page_about import about_run, sample_examples
from serving.batcher import Batcher, Busy
from storage.files import parse_json, show

HERE = os.path.dirname(os.path.abspath(__file__))
SEARCH = search_options.Options._fields  # options of a request, as of predict.py
KNOWN = SEARCH + ('text', 'question', 'story', 'target', 'run', 'alignments')
SMALL = 2000  # hypotheses times output tokens, and source tokens, of requests that overtake others
DIGITS = 6

Limits = collections.namedtuple('Limits', 'texts characters beam_width max_length body seconds search answer forced')
Limits.__new__.__defaults__ = (128, 20000, 16, 1000, 2 ** 20, 25., 16 * 10 ** 6, 2 * 10 ** 6, 2 ** 23)
Limits.__doc__ = """Limits of one request.

texts, characters: of all its texts. beam_width, max_length: of the search. body: bytes. seconds: until the answer.
search: attention weights that the search of one text may keep, beam width x output x source tokens, of 20 bytes each.
answer: weights in the answer, n_best x output x source tokens of all texts, about 8 bytes of JSON each. Outputs count
with their maximum length. forced: logits of a given output, its tokens x the vocabulary, of about 20 bytes each.
"""


class Refused(Exception):
    """The answer to a request is an error with this HTTP status."""

    def __init__(self, status, message):
        super(Refused, self).__init__(message)
        self.status = status


class Service(object):
    """Loaded runs by name, with the limits of a request.

    # Arguments
        translators: OrderedDict of name to `Translator`; the first is the default.
        limits: `Limits`.
        batch_size, wait, queue: as for `Batcher`.
        examples: source texts to try; by default those of the samples, for a run of them.
    """

    def __init__(self, translators, limits=Limits(), batch_size=32, wait=0.005, queue=256, examples=None):
        self.translators, self.limits, self.stopping = translators, limits, False
        self.runs = [about_run(name, translator.settings, (translator.source_vocabulary, translator.target_vocabulary),
                               examples or sample_examples(translator.run.manifest()))
                     for name, translator in translators.items()]
        self.registry = prometheus_client.CollectorRegistry()
        make = dict(registry=self.registry, namespace='attention')
        self.requests = prometheus_client.Counter('requests', 'Requests by path and status.', ['path', 'status'],
                                                  **make)
        self.seconds = prometheus_client.Histogram('request_seconds', 'Time to the answer of POST /translate.', **make)
        self.batches = prometheus_client.Histogram('batch_texts', 'Texts decoded together.',
                                                   buckets=(1, 2, 4, 8, 16, 32, 64, 128), **make)
        waiting = prometheus_client.Gauge('waiting_texts', 'Texts in the queue.', **make)
        prometheus_client.ProcessCollector(registry=self.registry)
        self.batchers = {name: Batcher(translator, batch_size, wait, queue, self.batches.observe,
                                       translator.workers)
                         for name, translator in translators.items()}
        waiting.set_function(lambda: sum(batcher.length() for batcher in self.batchers.values()))

    def close(self, seconds):
        """Finishes the requests that have begun, in at most `seconds`; returns whether all are finished."""
        self.stopping = True
        end = time.monotonic() + seconds
        return all([batcher.close(max(0., end - time.monotonic())) for batcher in self.batchers.values()])

    def health(self):
        """The state and the runs, as the page and a load balancer read them."""
        return {'status': 'stopping' if self.stopping else 'ok', 'version': VERSION, 'limits': self.limits._asdict(),
                'runs': self.runs}

    def translate(self, body):
        """The answer to the JSON body of POST /translate, as a dict.

        # Raises
            Refused: the body is not as `openapi.json` says, or the server is too busy.
        """
        deadline = time.time() + self.limits.seconds
        name, texts, targets, options = self._read(body)
        attention = self.translators[name].settings.score != 'none' and body.get('alignments', True)
        large = self._measure(self.translators[name], texts, targets, options, attention)
        if self.stopping:
            raise Refused(503, 'the server is stopping')
        try:
            given = (texts, options._asdict()) if targets is None else (list(zip(texts, targets)), None)
            future = self.batchers[name].submit(*given, deadline=deadline, large=large)
            results = future.result(max(0., deadline - time.time()) + 1.)  # the search itself ends at the deadline
        except Busy:
            raise Refused(503, 'too many requests are waiting: try again')
        except UserError as error:
            raise Refused(400, str(error))
        except (TimeoutError, concurrent.futures.TimeoutError):
            future.cancel()
            raise Refused(503, 'no answer within %g seconds: try again, with less text' % self.limits.seconds)
        return {'run': name, 'results': [
            {'source': text, 'source_tokens': hypotheses[0].source_tokens, 'unknown': list(hypotheses[0].unknown),
             'hypotheses': [_hypothesis(hypothesis, attention) for hypothesis in hypotheses]}
            for text, hypotheses in zip(texts, results)]}

    def _read(self, body):
        """Name of the run, texts, given outputs or `None`, and options of a request."""
        unknown = sorted(set(body) - set(KNOWN))
        _check(not unknown, 'unknown field %s: the fields are %s', ', '.join(map(show, unknown[:3])), ', '.join(KNOWN))
        name = body.get('run', next(iter(self.translators)))
        _check(isinstance(name, str) and name in self.translators, 'no run %s: the runs are %s', show(name),
               ', '.join(self.translators))
        _check(isinstance(body.get('alignments', True), bool), 'alignments must be true or false')
        texts, targets = _texts(body), _targets(body)
        _check(targets is None or len(targets) == len(texts), 'target must have one line for each text')
        count = sum(map(len, texts + (targets or [])))
        _check(len(texts) <= self.limits.texts, '%d texts are more than %d: send several requests', len(texts),
               self.limits.texts)
        _check(count <= self.limits.characters, '%d characters are more than %d: send several requests', count,
               self.limits.characters)
        values = {field: body[field] for field in SEARCH if body.get(field) is not None}
        for field in ('beam_width', 'max_length', 'min_length'):
            limit = self.limits.beam_width if field == 'beam_width' else self.limits.max_length
            _check(not isinstance(values.get(field), (int, float)) or values[field] <= limit, '%s may be at most %d',
                   field, limit)
        try:
            options = search_options.merge(self.translators[name].settings, argparse.Namespace(**values))
        except UserError as error:
            raise Refused(400, str(error))
        return name, texts, targets, options

    def _measure(self, translator, texts, targets, options, attention):
        """Refuses what would take too much memory, before the search; returns whether a request is a large one."""
        sources, limits, answer = [len(translator.encode(text)) for text in texts], self.limits, 0
        if targets is None:
            width, n_best, longest, remedy = options.beam_width, options.n_best, limits.max_length, 'give max_length'
            lengths = [int(length) if source else 0
                       for source, length in zip(sources, beam_search.max_lengths(sources, options))]
        else:
            width = n_best = 1
            longest = min(limits.max_length, limits.forced // len(translator.target_vocabulary))
            remedy = 'the target'
            lengths = [len(translator.target_tokenizer.tokenize(target)) + 1 for target in targets]  # with </s>
        for number, (source, length) in enumerate(zip(sources, lengths), 1):
            _check(length <= longest, 'the output of text %d, of %d tokens, may have %d tokens, and %d are '
                   'allowed: shorten the text, or %s', number, source, length, longest, remedy)
            weights = width * length * source
            _check(weights <= limits.search, 'text %d: a beam of width %d, outputs of up to %d tokens and a source of '
                   '%d need %d attention weights, and %d are allowed: lower beam_width or max_length, or shorten the '
                   'text', number, width, length, source, weights, limits.search)
            answer += n_best * length * source
        _check(not attention or answer <= limits.answer, 'the answer could have %d attention weights, and %d are '
               'allowed: send several requests, lower n_best or max_length, or give "alignments": false', answer,
               limits.answer)
        return width * sum(lengths) + sum(sources) > SMALL


def _texts(body):
    if 'question' in body or 'story' in body:
        _check('text' not in body, 'give text, or question and story')
        parts = [body.get('question'), body.get('story')]
        _check(all(isinstance(part, str) for part in parts), 'question and story must be strings')
        texts = ['%s | %s' % tuple(' '.join(part.split()) for part in parts)]
    else:
        _check('text' in body, 'text is missing: a string or a list of strings')
        texts = [body['text']] if isinstance(body['text'], str) else body['text']
    return _lines(texts, 'text')


def _targets(body):
    """The outputs that a request gives, one for each text; `None` for a search."""
    if body.get('target') is None:
        return None
    options = [field for field in SEARCH if body.get(field) is not None]
    _check(not options, 'with target nothing is searched: omit %s', ', '.join(options))
    return _lines([body['target']] if isinstance(body['target'], str) else body['target'], 'target')


def _lines(texts, name):
    _check(isinstance(texts, list) and all(isinstance(text, str) for text in texts),
           '%s must be a string or a list of strings', name)
    for text in texts:
        _check('\n' not in text, 'a text must be one line: send a list of lines')
        _check(not any('\ud800' <= character <= '\udfff' for character in text), 'a text has a lone surrogate')
    return texts


def _check(condition, message, *values):
    if not condition:
        raise Refused(400, message % values)


def _hypothesis(hypothesis, attention):
    alignment = np.round(hypothesis.alignment.astype('f8'), 4).tolist() if attention else None
    return {'text': hypothesis.text, 'tokens': hypothesis.tokens, 'score': round(hypothesis.score, DIGITS),
            'ranking': round(hypothesis.ranking, DIGITS), 'copied': list(hypothesis.copied),
            'log_probabilities': [round(value, DIGITS) for value in hypothesis.log_probabilities],
            'alignment': alignment}


def is_loopback(address):
    """Whether an IP address as text reaches this machine only."""
    try:
        return ipaddress.ip_address(address.split('%')[0]).is_loopback
    except ValueError:
        return False


def _names_this_machine(host):
    """Whether the header `Host` is `localhost` or an address of the loopback, with or without a port."""
    try:
        name = urllib.parse.urlsplit('//' + host).hostname or ''
    except ValueError:
        return False
    return name == 'localhost' or is_loopback(name)


def make_page():
    """The page to try the runs, with its style and its scripts inside."""
    font = '@font-face { font-family: "Embedded"; src: url(font.ttf); unicode-range: %s }\n' % EAST_ASIAN_RANGE
    styles = font + ''.join(map(read_part, PAGE_STYLES + ('translation_page.css',)))
    with open(os.path.join(HERE, 'server_engine.js'), encoding='utf-8', newline='\n') as stream:
        scripts = ''.join(map(read_part, PAGE_SCRIPTS)) + stream.read() + read_part('translation_page.js')
    return fill_template('translation_page.html', {
        '<!--HEAD-->': '', '<!--MESSAGE-->': '', '<!--STYLE-->': '<style>\n%s</style>' % styles,
        '<!--SCRIPT-->': '<script>\n%s</script>' % scripts})


def make_application(service, token=None, local=True):
    """The Flask application of a `Service`.

    # Arguments
        token: TOKEN of the header `Authorization: Bearer TOKEN` for /translate and /metrics; `None`: no token needed.
        local: Boolean, the server listens on loopback only. Requests with another host name are then refused: a
            stranger's web page could resolve its own name to this machine (DNS rebinding).
    """
    application = flask.Flask('attention', static_folder=None)
    application.config.update(JSON_SORT_KEYS=False)
    page = make_page()
    with open(os.path.join(HERE, 'openapi.json'), encoding='utf-8') as stream:
        interface = json.load(stream)
    interface['info']['version'] = VERSION

    @application.before_request
    def begin():
        flask.g.started = time.time()
        if local and not _names_this_machine(flask.request.host):
            raise Refused(403, 'this server answers on this machine only')
        if (flask.request.content_length or 0) > service.limits.body:
            raise Refused(413, 'the body is larger than %d bytes' % service.limits.body)
        needed = token is not None and flask.request.path in ('/translate', '/metrics')
        header = flask.request.headers.get('Authorization', '')
        if needed and not hmac.compare_digest(header.encode('utf-8', 'replace'), b'Bearer ' + token.encode('utf-8')):
            raise Refused(401, 'a token is needed: send the header "Authorization: Bearer TOKEN"')

    @application.after_request
    def end(response):
        path = flask.request.url_rule.rule if flask.request.url_rule else 'other'
        service.requests.labels(path, response.status_code).inc()
        if path == '/translate':
            service.seconds.observe(time.time() - flask.g.started)
        response.headers.update({'X-Content-Type-Options': 'nosniff', 'Referrer-Policy': 'no-referrer'})
        if response.status_code == 503:
            response.headers['Retry-After'] = '1'
        return response

    @application.errorhandler(Refused)
    def refuse(error):
        return flask.jsonify(error=str(error)), error.status

    @application.errorhandler(HTTPException)
    def refuse_http(error):
        message = 'no such page: see /openapi.json' if error.code == 404 else error.description
        return flask.jsonify(error=message), error.code

    @application.route('/translate', methods=['POST'])
    def translate():
        if not flask.request.is_json:
            raise Refused(415, 'send JSON with the header "Content-Type: application/json"')
        try:
            body = parse_json(flask.request.get_data(), 'the body')
        except UserError as error:
            raise Refused(400, str(error))
        return flask.Response(json.dumps(service.translate(body), separators=(',', ':')), mimetype='application/json')

    @application.route('/health')
    def health():
        return flask.jsonify(dict(service.health(), token=token is not None)), 503 if service.stopping else 200

    @application.route('/metrics')
    def metrics():
        return flask.Response(prometheus_client.generate_latest(service.registry),
                              content_type=prometheus_client.CONTENT_TYPE_LATEST)

    @application.route('/openapi.json')
    def openapi():
        return flask.jsonify(interface)

    @application.route('/font.ttf')
    def font():
        return flask.send_file(BUNDLED_FONT, mimetype='font/ttf', max_age=86400)

    @application.route('/')
    def index():
        response = flask.Response(page, content_type='text/html; charset=utf-8')
        response.headers['Content-Security-Policy'] = (
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
            "font-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
        return response

    return application
