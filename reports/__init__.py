"""Reports: metrics, pictures, pages, output formats."""
