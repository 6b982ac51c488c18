"""Runs the tutorial notebooks and writes their outputs into them: `make tutorial-outputs`.

    .venv/bin/python docs/run_tutorial.py                         # both notebooks
    .venv/bin/python docs/run_tutorial.py docs/tutorial.ipynb

Cell metadata: `tolerance` is the tolerance of a cell's printed numbers for the test, absolute and relative, where they
depend on a training; `times` marks a cell whose numbers the test does not compare.
"""
import concurrent.futures
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
NOTEBOOKS = ('tutorial.ipynb', 'tutorial.zh-CN.ipynb')
KEPT = ('tolerance', 'times')


def execute(path):
    """The notebook at `path`, run from its own folder, without what changes from run to run."""
    import nbclient
    import nbformat
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=900, kernel_name='python3',
                            resources={'metadata': {'path': os.path.dirname(os.path.abspath(path))}}).execute()
    notebook.metadata = {'kernelspec': notebook.metadata['kernelspec'], 'language_info': {'name': 'python'}}
    for cell in notebook.cells:
        cell.metadata = {key: value for key, value in cell.metadata.items() if key in KEPT}
        for output in cell.get('outputs', ()):
            if 'metadata' in output:
                output.metadata = {}
    return notebook


def execute_all(paths):
    """`execute` of several notebooks, at the same time."""
    with concurrent.futures.ProcessPoolExecutor(len(paths)) as pool:
        return list(pool.map(execute, paths))


def main(argv):
    import nbformat
    paths = argv or [os.path.join(HERE, name) for name in NOTEBOOKS]
    for path, notebook in zip(paths, execute_all(paths)):
        nbformat.write(notebook, path)


if __name__ == '__main__':
    main(sys.argv[1:])
