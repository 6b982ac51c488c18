"""onnxruntime-web, the npm package that computes ONNX graphs in a browser: which one, and its files.

`make web` brings the package beside this module; nothing in it is run here. Each reading compares its hash.
"""
import hashlib
import io
import os
import tarfile

from command_line import UserError, tell

HERE = os.path.dirname(os.path.abspath(__file__))
VERSION = '1.22.0'
PACKAGE = os.path.join(HERE, 'onnxruntime-web-%s.tgz' % VERSION)
ADDRESS = 'https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-%s.tgz' % VERSION
SHA512 = ('51dffe101a3a9a1b9a416b7f3a368e93488d5a35ea26879e305afac501044597'
          '48647d8e5a91b3bae8f3ee57ee3818d46ba4c413fb1ce276fb0dae5d34bdf87e')
# The script, its part for WebAssembly, and the program: the smallest set that runs on any browser, on one thread.
SCRIPT, PART, PROGRAM = 'ort.wasm.min.js', 'ort-wasm-simd-threaded.mjs', 'ort-wasm-simd-threaded.wasm'


def runtime_files():
    """{name: bytes} of the files that a page needs.

    # Raises
        UserError: the package is not there, or is another one.
    """
    try:
        with open(PACKAGE, 'rb') as stream:
            data = stream.read()
    except OSError:
        raise UserError('--format web needs onnxruntime-web: run make web, or put %s into %s' % (ADDRESS, HERE))
    if hashlib.sha512(data).hexdigest() != SHA512:
        raise UserError('%s: is not onnxruntime-web %s: remove it and run make web' % (PACKAGE, VERSION))
    with tarfile.open(fileobj=io.BytesIO(data), mode='r:gz') as package:
        return {name: package.extractfile('package/dist/' + name).read() for name in (SCRIPT, PART, PROGRAM)}


if __name__ == '__main__':
    tell('%s: onnxruntime-web %s, %d files' % (PACKAGE, VERSION, len(runtime_files())))
