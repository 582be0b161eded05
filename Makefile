# What can be done here; each line is also a sentence of README.md.
.PHONY: help demo check test lint audit fuzz docs recording screenshots bench static release publish bundle vendor versions soak model nfs images test-deploy chart-files

help:
	@echo "make demo    build, and watch one job run on a small repository"
	@echo "make test    all tests (fetches the tools they need)"
	@echo "make check   formatting, clippy, unit tests, tidiness: under a minute, for before a commit"
	@echo "make lint    formatting, clippy, shellcheck"
	@echo "make docs    print the pages on commands, settings and routes from their tables"
	@echo "make audit   licences, sources and known holes of what this depends on (wants a network)"
	@echo "make fuzz    ten million random texts for what judges texts from outside (half an hour)"
	@echo "make recording  the picture of a run in the README"
	@echo "make screenshots  the pictures of the page in docs/"
	@echo "make bench   what the runner adds to a job, start-up, memory, size, the fleet beside redis-benchmark: as ratios"
	@echo "make soak    2 000 jobs on four pods while pods and Redis are killed, stopped and rolled back (some minutes)"
	@echo "make model   the fleet's transitions explored exhaustively with two faults (ten minutes)"
	@echo "make nfs     a fleet over real NFS, between two machines in user mode (root, Debian)"
	@echo "make static  a fully static release binary"
	@echo "make release that binary, x86-64 and arm64, with its unit, install.sh, SBOM and sums, in one archive each"
	@echo "make publish REGISTRY=…  pushes the images, then the chart with their digests"
	@echo "make bundle  images, chart, manifests, binary and docs in one archive, for a network that reaches nothing"
	@echo "make vendor  every crate's sources, to build without a network"
	@echo "make versions  the version before beside this one, both ways, on one Redis and one volume"
	@echo "make images  both container images, from source, with docker, podman or buildah"
	@echo "make test-deploy  images, chart, manifests and Compose, built and run (root, Debian; half an hour the first time)"
	@echo "make chart-files  write the chart's README and the raw manifests, which follow from its values"

demo:
	@scripts/demo.sh

test:
	@scripts/test.sh

check:
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo test --quiet --lib
	cargo test --quiet --test it tidy::

lint:
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	@scripts/shellcheck.sh

docs:
	WRITE_GOLDEN=1 cargo test --quiet --lib printed::

audit:
	@scripts/audit.sh

fuzz:
	AGENTICORE_FUZZ_ROUNDS=$${AGENTICORE_FUZZ_ROUNDS:-1700000} AGENTICORE_FUZZ_SEED=$${AGENTICORE_FUZZ_SEED:-$$(date +%s)} \
	  cargo test --release --test fuzz -- --nocapture

# The pictures of the page in docs/, from a real one.
screenshots:
	PAGE_SCREENSHOTS=$(CURDIR)/docs scripts/test.sh page::a_person_uses_it_in_chromium

recording:
	@scripts/record.py

bench:
	cargo build --release --bins --examples
	cargo bench --bench runner
	cargo bench --bench doors
	cargo bench --bench lists
	cargo bench --bench fleet

static:
	@scripts/static.sh

release:
	@scripts/release.sh

publish:
	@scripts/publish.sh $(REGISTRY)

bundle:
	@scripts/bundle.sh

vendor:
	@scripts/vendor.sh

versions:
	@scripts/test-tools.sh >/dev/null
	@AGENTICORE_OLDER_BINARY=$$(scripts/older.sh) scripts/test.sh versions::

images:
	@scripts/images.sh

test-deploy:
	@scripts/test-deploy.sh

chart-files:
	@eval "$$(scripts/deploy-tools.sh)" && scripts/chart-files.py "$$HELM4"

# The same as the short one among the tests, longer. AGENTICORE_SOAK_SEED=N draws other faults.
soak:
	@scripts/test-tools.sh >/dev/null
	cargo build --bins --examples
	AGENTICORE_SOAK_JOBS=$${AGENTICORE_SOAK_JOBS:-2000} cargo test --test it soak:: -- --nocapture

model:
	@mkdir -p target
	rustc --edition 2024 -O --test tests/model/main.rs -o target/model
	AGENTICORE_MODEL_FAULTS=2 target/model --nocapture

nfs:
	@tests/nfs/two-nodes.sh
