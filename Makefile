TARGET := $(or $(CARGO_TARGET_DIR),target)
RELEASE := $(TARGET)/release
PREFIX ?= /usr/local

.DEFAULT_GOAL := help
.PHONY: help demo demo-down test bench fuzz image install binaries archive

help: ## what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## set up what is needed and show the main job on this machine
	@tests/setup
	@tests/progress 'binaries' $(MAKE) --no-print-directory binaries
	@tests/progress 'image' $(MAKE) --no-print-directory archive
	@tests/progress 'base tree of guests' $(RELEASE)/ground base
	@$(RELEASE)/demo up

demo-down: ## stop what `make demo` left running
	@test -x $(RELEASE)/demo || tests/progress 'binaries' cargo build --locked --release -p bento-tests --bins
	@$(RELEASE)/demo down

test: ## set up what is needed and run every check
	@tests/setup
	@tests/check

bench: ## measure what a large fleet costs
	cargo bench --locked -p bento-appliance --bench scale

fuzz: ## look for inputs that break something: SECONDS=600 for each target, or TARGETS="report archive"
	@tests/setup
	@tests/fuzz $(or $(SECONDS),600) $(TARGETS)

image: binaries archive ## build the image, target/bento.oci.tar, for `podman load -i`

install: binaries ## put `bento` with its manual and completions into PREFIX=/usr/local
	install -D $(RELEASE)/bento $(DESTDIR)$(PREFIX)/bin/bento
	$(RELEASE)/bento-manual install $(DESTDIR)$(PREFIX) bento

binaries:
	cargo build --locked --release --workspace --bins

archive:
	$(RELEASE)/bento-image build --binary $(RELEASE)/bento --output $(TARGET)/bento.oci.tar
