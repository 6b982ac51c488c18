"""What exported folders consist of: the graphs of `export.py --format onnx`, and the manifest of every folder."""
