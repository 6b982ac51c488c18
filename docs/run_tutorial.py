"""Runs the tutorial notebooks and writes their outputs into them: `make tutorial-outputs`.

    .venv/bin/python docs/run_tutorial.py                         # both notebooks
    .venv/bin/python docs/run_tutorial.py docs/tutorial.ipynb

Cell metadata: `tolerance` is the tolerance of a cell's printed numbers for the test, absolute and relative, where they
depend on a training; `times` marks a cell whose numbers the test does not compare. Folded solutions of exercises are
text in the notebook; `with_solutions` makes cells of them, for the test.
"""
import concurrent.futures
import os
import re
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
NOTEBOOKS = ('tutorial.ipynb', 'tutorial.zh-CN.ipynb')
WIDGET = 'application/vnd.jupyter.widget-view+json'
KEPT = ('tolerance', 'times', 'solution')
SOLUTION = re.compile('<details>.*?```python\n(.*?)```\n\n```text\n(.*?)```', re.DOTALL)


def with_solutions(notebook):
    """A notebook whose folded solutions are cells too; their metadata `solution` is the text that they should print."""
    import nbformat
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        if cell.cell_type == 'markdown':
            cells += [nbformat.v4.new_code_cell(code, metadata={'solution': expected})
                      for code, expected in SOLUTION.findall(cell.source)]
    notebook.cells = cells
    return notebook


def join_streams(outputs):
    """The outputs of a cell with neighbouring texts of a stream as one: a busy machine divides a text anywhere."""
    joined = []
    for output in outputs:
        if joined and output['output_type'] == 'stream' and output['name'] == joined[-1].get('name'):
            joined[-1]['text'] += output['text']
        else:
            joined.append(output)
    return joined


def execute(path, solutions=False):
    """The notebook at `path`, run from its own folder, without what changes from run to run."""
    import nbclient
    import nbformat
    from traitlets.config import Config
    notebook = nbformat.read(path, as_version=4)
    if solutions:
        notebook = with_solutions(notebook)
    # Sockets in a folder of its own: a free TCP port can be another's by the time the kernel binds it.
    with tempfile.TemporaryDirectory() as sockets:
        config = Config(KernelManager={'transport': 'ipc', 'ip': os.path.join(sockets, 'kernel')})
        nbclient.NotebookClient(notebook, timeout=900, kernel_name='python3', config=config,
                                resources={'metadata': {'path': os.path.dirname(os.path.abspath(path))}}).execute()
    notebook.metadata = {'kernelspec': notebook.metadata['kernelspec'], 'language_info': {'name': 'python'}}
    for cell in notebook.cells:
        cell.metadata = {key: value for key, value in cell.metadata.items() if key in KEPT}
        if 'outputs' in cell:
            cell.outputs = join_streams(cell.outputs)
        for output in cell.get('outputs', ()):
            output.get('data', {}).pop(WIDGET, None)       # the picture beside it stays
            if 'metadata' in output:
                output.metadata = {key: value for key, value in output.metadata.items() if key.startswith('image/')}
    return notebook


def execute_all(paths, solutions=False):
    """`execute` of several notebooks, at the same time."""
    with concurrent.futures.ProcessPoolExecutor(len(paths)) as pool:
        return list(pool.map(execute, paths, [solutions] * len(paths)))


def main(argv):
    import nbformat
    paths = argv or [os.path.join(HERE, name) for name in NOTEBOOKS]
    for path, notebook in zip(paths, execute_all(paths)):
        nbformat.write(notebook, path)


if __name__ == '__main__':
    main(sys.argv[1:])
