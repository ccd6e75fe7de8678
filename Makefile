# The commands of this project. `make help` lists them.

SHELL := /bin/bash
CARGO ?= cargo

.DEFAULT_GOAL := help
.PHONY: help demo sim sim-mutants fuzz soak chaos chaos-seeds chaos-measure letters-chaos letters-measure batch-measure telemetry-measure bench mutants test test-manifests test-images browser-test check release broker fetch clean-cache counts

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

demo: ## 1,000 updates through RabbitMQ to a simulated Dynamics 365, then a summary; KEEP=1 leaves it running
	@$(CARGO) build --quiet --bins
	@$(CARGO) run --quiet --example demo

# The names are those of the program's flags; see `cargo run --example chaos -- --help`. Their values
# come from make's command line alone: bash has a variable SECONDS of its own.
CHAOS_FLAGS = $(foreach flag,seconds workers seed faults shards orders rate set cluster proof get-latency patch-latency conflict-rate daemon,$(call chaos_flag,$(flag)))
chaos_flag = $(if $(filter command% override,$(origin $(call upper,$(1)))),--$(1) '$($(call upper,$(1)))')
upper = $(shell echo $(1) | tr a-z- A-Z_)

chaos: ## Workers killed, stopped and cut off while updates flow; then proof. SECONDS= WORKERS= SEED= FAULTS=
	@$(CARGO) build --quiet --bins
	@$(CARGO) run --quiet --example chaos -- $(CHAOS_FLAGS) $(if $(FENCED),--fenced) $(if $(SEQUENCED),--sequenced) $(if $(INBOX),--inbox) $(if $(PARKED),--parked) $(if $(KEEP),--keep-logs)

chaos-seeds: ## Five minutes of chaos for each of ten seeds; prints a row of docs/PROOF.md for each. SEEDS= SECONDS=
	@$(CARGO) build --quiet --bins --example chaos
	@tests/chaos/seeds.sh $(if $(filter command%,$(origin SECONDS)),$(SECONDS),300) $(or $(SEEDS),1 2 3 4 5 6 7 8 9 10)

chaos-measure: ## How long shards are without a pod, how even they lie, what a rolling restart costs
	@$(CARGO) build --quiet --bins
	@$(CARGO) run --quiet --example chaos -- --measure $(CHAOS_FLAGS)

letters-chaos: ## The operator's tool and the daemon killed at work on dead letters; then proof. SEEDS= FIRST=
	@$(CARGO) build --quiet --bins
	@$(CARGO) run --quiet --example letters -- $(foreach flag,seeds first daemon,$(call chaos_flag,$(flag)))

letters-measure: ## Seconds and memory that the operator's tool takes on a long queue, optimised. LETTERS=100000
	@$(CARGO) build --quiet --profile bench --bins
	@$(CARGO) run --quiet --profile bench --example letters -- --measure $(or $(LETTERS),100000)

batch-measure: ## Updates a second with $$batch and without, as a ratio; SECONDS= RUNS= QUOTA= OPERATIONS=
	@$(CARGO) build --quiet --bins
	@$(CARGO) run --quiet --example batch -- $(foreach flag,seconds runs quota operations,$(call chaos_flag,$(flag)))

telemetry-measure: ## What log, metrics and traces cost, as ratios, optimised; UPDATES= RUNS= SHARDS= FIGURES=
	@$(CARGO) build --quiet --release --bins
	@$(CARGO) run --quiet --release --example overhead -- $(foreach flag,updates runs shards figures,$(call chaos_flag,$(flag)))

bench: ## The daemon beside a bare pipeline, optimised, as ratios; SCENARIOS= (`list` prints them) or SWEEP=, RUNS= UPDATES=
	@$(CARGO) build --quiet --release --bins --example bench --example bare
	@$(CARGO) run --quiet --release --example bench -- $(foreach flag,scenarios runs updates sweep pictures,$(call chaos_flag,$(flag)))

counts: ## Instructions and allocations of the hot path, held to a baseline; BLESS=1 writes it anew
	@BLESS=$(BLESS) CARGO=$(CARGO) tests/hot/counts.sh

mutants: ## Builds that are broken on purpose, each of which make chaos must catch; NAME= for some
	@tests/chaos/mutants.sh $(NAME)

sim: ## Pods, broker and target in virtual time, seed after seed. SEEDS= FIRST= or one: SEED= KEEP= UPDATES=
	@$(CARGO) run --quiet --profile bench --example sim -- $(foreach flag,seeds first seed keep updates threads,$(call chaos_flag,$(flag)))

sim-mutants: ## Code that is broken on purpose, each of which the simulation must catch; NAME= for some
	@tests/sim/mutants.sh $(NAME)

fuzz: ## Bytes at everything that reads what others wrote, by a nightly compiler. SECONDS= each, NAME= for some
	@fuzz/run.sh $(if $(filter command% override,$(origin SECONDS)),$(SECONDS),60) $(NAME)

soak: ## Real processes for a while: memory and descriptors must stay flat; leaves a picture. MINUTES= RATE=
	@$(CARGO) build --quiet --release --bins
	@$(CARGO) run --quiet --release --example soak -- $(foreach flag,minutes rate workers picture,$(call chaos_flag,$(flag)))

test: ## All tests; those that need a RabbitMQ bring one up themselves
	$(CARGO) test

test-manifests: ## What is shipped for Kubernetes, by the tools' own validators; needs kubectl and Python with pip
	@tests/manifests.sh

test-images: ## Images built, the playground brought up, workers and broker killed in it; needs Docker, or root on Debian
	@tests/images/run.sh

release: ## What is shipped, in target/dist: stripped programs, man pages, completions, an SBOM and their sums
	@deploy/release.sh

browser-test: ## The status page in a real Chromium; PICTURES= is where its pictures go
	@$(CARGO) build --quiet --bins
	@$(CARGO) run --quiet --example browser -- $(or $(PICTURES),$(CURDIR)/.cache)

# The pages are read by those who work on the code, with the private items: links to those are fine.
DOC_FLAGS := -D warnings -A rustdoc::private_intra_doc_links

check: ## Formatting, lints and documentation, with every warning an error
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	RUSTDOCFLAGS='$(DOC_FLAGS)' $(CARGO) doc --no-deps --document-private-items

# At Ctrl-C the script ends in good order; make, which is interrupted as well, still says so.
broker: ## Run a RabbitMQ in the foreground until Ctrl-C; prints its URLs, takes restart, kill, stop, start
	@deploy/local/broker.sh run

fetch: ## Fill the cache that tests and demo take RabbitMQ from where there is neither Docker nor a server
	@deploy/local/broker.sh fetch

clean-cache: ## Remove the unpacked RabbitMQ
	rm -rf .cache
