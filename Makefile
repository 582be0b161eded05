# What can be done here; each line is also a sentence of README.md.
.PHONY: help demo test lint bench static

help:
	@echo "make demo    build, and watch one job run on a small repository"
	@echo "make test    all tests (fetches the tools they need)"
	@echo "make lint    formatting and clippy"
	@echo "make bench   what the runner adds to a job, start-up, memory, size: as ratios"
	@echo "make static  a fully static release binary"

demo:
	@scripts/demo.sh

test:
	@scripts/test.sh

lint:
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings

bench:
	cargo build --release --bins --examples
	cargo bench --bench runner

static:
	@scripts/static.sh
