"""Fuzz targets: test_fuzz_*.py by hypothesis in `make test`, fuzz_*.py by atheris in `make fuzz`."""
