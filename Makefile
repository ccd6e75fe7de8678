# The commands of this project. `make help` lists them.

SHELL := /bin/bash
CARGO ?= cargo

.DEFAULT_GOAL := help
.PHONY: help demo test check broker fetch clean-cache

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

demo: ## 1,000 updates through RabbitMQ to a simulated Dynamics 365, then a summary; KEEP=1 leaves it running
	@$(CARGO) build --quiet --bins
	@$(CARGO) run --quiet --example demo

test: ## All tests; those that need a RabbitMQ bring one up themselves
	$(CARGO) test

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
