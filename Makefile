TARGET := $(or $(CARGO_TARGET_DIR),target)
# The folder of the programs, by cargo's profile: "release", or "debug" for tests.
PROFILE ?= release
PROGRAMS := $(TARGET)/$(PROFILE)
ARCHIVE := $(if $(filter release,$(PROFILE)),$(TARGET),$(PROGRAMS))/bento.oci.tar
PREFIX ?= /usr/local

.DEFAULT_GOAL := help
.PHONY: help demo demo-down check test test-long test-nixos bench fuzz image install binaries archive

help: ## what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## set up what is needed and show the main job on this machine
	@tests/setup
	@tests/progress 'binaries' $(MAKE) --no-print-directory binaries
	@tests/progress 'image' $(MAKE) --no-print-directory archive
	@tests/progress 'base tree of guests' $(PROGRAMS)/test-env base
	@PROFILE=$(PROFILE) $(PROGRAMS)/demo up

demo-down: ## stop what `make demo` left running
	@test -x $(PROGRAMS)/demo || tests/progress 'binaries' cargo build --locked --release -p bento-tests --bins
	@$(PROGRAMS)/demo down

check: ## format, lints and unit tests; installs nothing
	@tests/check quick

test: ## set up what is needed and run every check; ONLY=NAME: just the tests with that in their name
	@tests/setup
	@tests/check short $(ONLY)

test-long: ## the tests that take too long for that: many crashes, long lives, the Containerfile
	@tests/setup
	@tests/check long $(ONLY)

test-nixos: ## the client and the modules on a real NixOS: NIXPKGS=DIR of a checkout of nixpkgs; ONLY=NAME
	@test -z "$(NIXPKGS)" || tests/setup
	@tests/nixos/check "$(NIXPKGS)" $(if $(ONLY),"$(ONLY)")

bench: ## measure what a large fleet costs
	cargo bench --locked -p bento-appliance --bench scale

fuzz: ## look for inputs that break something: SECONDS=600 for each target, or TARGETS="report archive"
	@tests/setup
	@tests/fuzz $(or $(SECONDS),600) $(TARGETS)

image: binaries archive ## build the image, target/bento.oci.tar, for `podman load -i`

install: binaries ## put `bento` with its manual and completions into PREFIX=/usr/local
	install -D $(PROGRAMS)/bento $(DESTDIR)$(PREFIX)/bin/bento
	$(PROGRAMS)/bento-manual install $(DESTDIR)$(PREFIX) bento

binaries:
	cargo build --locked --profile $(PROFILE:debug=dev) --workspace --bins

archive:
	$(PROGRAMS)/bento-image build --binary $(PROGRAMS)/bento --output $(ARCHIVE)
