# The commands of the project. "make" alone lists them.

GO            ?= go
GOLANGCI_LINT := $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# Folders with a go.mod. What only one of them needs stays out of the go.sum of the product's users.
MODULES := . bench brokers screens

BENCH ?= .
COUNT ?= 1

MINUTES  ?= 1
VERSIONS ?= 16 17 18
SEED    ?=
SINK    ?= nats

.PHONY: help
help: ## List these commands.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Show everything at work: a database, a producer, workers and traffic.
	$(GO) run ./cmd/outbox demo

.PHONY: test
test: ## Run all tests, and name those that this machine lacks something for. They start a PostgreSQL of their own.
	@GO='$(GO)' sh .ci/test $(MODULES)

.PHONY: test-brokers
test-brokers: ## Test the relay with real brokers, and insist that they are there. "make test" uses those that are.
	@CI=1 GO='$(GO)' sh .ci/test brokers

.PHONY: test-versions
test-versions: ## Run what runs SQL, and a minute of chaos, on other versions of PostgreSQL. VERSIONS='16 17' chooses.
	@GO='$(GO)' sh .ci/versions $(VERSIONS)

.PHONY: lint
lint: ## Check style and common mistakes, formatting included.
	for module in $(MODULES); do (cd $$module && $(GOLANGCI_LINT) run ./...) || exit 1; done

.PHONY: fmt
fmt: ## Format the code, as gofumpt does.
	for module in $(MODULES); do (cd $$module && $(GOLANGCI_LINT) fmt ./...) || exit 1; done

.PHONY: bench
bench: ## Compare with other systems, in short: under 6 minutes, with nothing else running.
	cd bench && $(GO) run ./compare --scenarios 1,2,3 --systems river,watermill --events 200000 --rounds 3 --duration 2s

.PHONY: bench-full
bench-full: ## Compare everything with everybody, as published: three to four hours.
	cd bench && $(GO) run ./compare

.PHONY: bench-self
bench-self: ## Measure Signalbox alone, against its own targets: operating it, takeovers, pages, busy keys, outages.
	cd bench && $(GO) run ./self --out results/self

.PHONY: bench-relay
bench-relay: ## Measure the relay's sinks beside their clients, in short: under 6 minutes, with nothing else running.
	cd bench && $(GO) run ./relay --rounds 1 --duration 5s --out results/relay

.PHONY: microbench
microbench: ## Run the Go benchmarks, one after the other. BENCH=regexp chooses, COUNT=n repeats.
	$(GO) test -run '^$$' -bench '$(BENCH)' -count $(COUNT) -timeout 1h ./internal/engine ./worker ./metrics

.PHONY: model
model: ## Explore the models of the protocols, and print what was found.
	$(GO) run ./proof/model

.PHONY: chaos
chaos: ## Kill, stop and cut off everything for MINUTES=n, and prove that nothing is lost. SEED=n repeats.
	$(GO) run ./proof/chaos --for $(MINUTES)m $(if $(SEED),--seed $(SEED))

.PHONY: chaos-brokers
chaos-brokers: ## The same for relays: kill, freeze, fill and cut off a broker and the relays to it. SINK=nats, kafka, rabbitmq or webhook.
	cd brokers && $(GO) run ./chaos --sink $(SINK) --for $(MINUTES)m $(if $(SEED),--seed $(SEED))

.PHONY: soak
soak: ## The same for an hour, and with workers whose clocks are wrong.
	$(GO) run ./proof/chaos --for 1h --skew 37m $(if $(SEED),--seed $(SEED))

.PHONY: test-moves
test-moves: ## Move an outbox between real servers, as docs/moving.md says, and between releases, as docs/versions.md says.
	$(GO) test -count 1 -v ./proof/moves ./proof/upgrade

.PHONY: sabotage
sabotage: ## Break a copy of the product on purpose, in one way after the other, and see that a test notices.
	$(GO) run ./proof/sabotage
