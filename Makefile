# Short names for what is done elsewhere: mostly by infra/local, infra/deploy.py and infra/replay.py, else by a test, a benchmark or npm.
# A text that somebody pastes, such as a customer's id, goes to the shell as a variable, "$$NAME": as a part of the command, a quote or a
# semicolon in it would be one of the command.
PYTHON ?= python3
STACK  := $(PYTHON) infra/local/stack.py
DEPLOY := $(PYTHON) infra/deploy.py
MAKEFLAGS += --no-print-directory

.DEFAULT_GOAL := help
.PHONY: help up down status token demo console consumer watch logs trace reconcile compare-books config providers certify rebuild republish reproject replay anonymise doubt export import orders restore-drill test client orderctl cost bench chaos soak poison mixed deploy smoke staff supervisor second-factor

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

up: ## Build, start and deploy the whole system on this machine; safe to repeat (LOCAL_PORT=4566)
	@$(STACK) up

down: ## Stop it (WIPE=1 also removes the installed tools)
	@$(STACK) down $(if $(WIPE),--wipe)

status: ## Say whether it runs
	@$(STACK) status

token: ## Print an access token: WHO=customer-1, customer-2, staff-1 (a supervisor), staff-2 or carrier-1; with STAGE=dev, of a user there
	@$(if $(filter-out local,$(STAGE)),$(DEPLOY) token $(STAGE) "$$WHO",$(STACK) token "$$WHO")

demo: ## Place an order and follow it to the end
	@$(STACK) demo

console: ## Try the console in a real browser, on the stack that is up; pictures of its pages go to .local/console
	@$(STACK) console

consumer: ## Try the example consumers beside the stack that is up: one order that they refuse among ORDERS=30 (LANGUAGE=rust or typescript, KEEP=1 leaves them there)
	@.local/tools/sam/bin/python tests/consumer_suite.py --orders=$(or $(ORDERS),30) --languages $(or $(LANGUAGE),rust typescript) $(if $(KEEP),--keep)

watch: ## Run the HTTP functions from source and rebuild them on every change
	@$(STACK) watch

logs: ## Follow the functions' logs (FUNCTION=create-order for one of them, ORDER=<id> for one order, CONTAINING=<any text>)
	@$(STACK) logs $(FUNCTION) --containing="$${ORDER:-$$CONTAINING}"

trace: ## Show what became of an order, hop by hop, with all times: ORDER=<id>
	@$(STACK) trace "$$ORDER"

reconcile: ## Look now for orders that nobody works on (PATIENCE=60 seconds without an event, 360 as the schedule does)
	@$(STACK) reconcile $(or $(PATIENCE),360)

compare-books: ## Compare now what orders in doubt hold at their providers (ORDER=<id> for one, PATIENCE=86400 seconds at rest as the schedule does)
	@$(STACK) compare-books $(or $(PATIENCE),86400) "$$ORDER"

config: ## Show what functions go by and where it comes from; SET='providers.payments.kind=grpc; ...' deploys a change, RESET=1 takes all of them back (STAGE=local)
	@$(STACK) config --stage=$(or $(STAGE),local) $(if $(SET),--set="$$SET") $(if $(RESET),--reset)

providers: ## Start a provider of your own to try: all four services over gRPC and REST, beside the local stack (BREAK=<law> has it break that one, STATE_FILE=<file> keeps its books)
	@$(STACK) providers --break="$$BREAK" --state="$$STATE_FILE"

certify: ## Hold a provider to the laws of its port: PROVIDER=inventory, payments, shipping or notifications, URL=grpc://127.0.0.1:50051 (TOKEN=<bearer token>, CA=<file of roots>, VERBOSE=1 shows all calls)
	@program=$$($(STACK) program certify) && "$$program" $(PROVIDER) $(URL)

rebuild: ## Rebuild a read model from the events while orders go on (VIEW=orders STAGE=local SEGMENTS=4 UNITS=<write units a second>, CHECK=1 stops before the switch, ACCEPT=1 switches whatever is missing, ABANDON=1 gives one up)
	@$(STACK) rebuild $(VIEW) --stage=$(or $(STAGE),local) --segments=$(SEGMENTS) --units=$(UNITS) \
		$(if $(ABANDON),--abandon) $(if $(CHECK),--check) $(if $(ACCEPT),--accept)

# Whose events, and how many at a time: see infra/redeliver.py.
REDELIVER = --stage=$(or $(STAGE),local) --order="$$ORDER" --customer="$$CUSTOMER" --orders="$$ORDERS" --pace=$(PACE) --limit=$(LIMIT)

republish: ## Put an order's events on the bus once more (ORDER=<id>, CUSTOMER=<id>, or ORDERS=<file> or - for many; AFTER=<version> STAGE=local)
	@$(STACK) republish $(REDELIVER) --after=$(AFTER)

reproject: ## Bring an order's views to what its events say (ORDER=<id>, CUSTOMER=<id>, or ORDERS=<file> or - for many; STAGE=local)
	@$(STACK) reproject $(REDELIVER)

replay: ## Replay an export with this build, and show what another build has made something else of (FROM=<folder>; AGAINST=<file> ACCEPT=<field,...>, RECORD=1 keeps this build's answers)
	@$(PYTHON) infra/replay.py replay "$$FROM" $(if $(AGAINST),--against="$$AGAINST") $(if $(ACCEPT),--accept="$$ACCEPT") $(if $(RECORD),--record)

anonymise: ## Write an export once more without what it says about people: FROM=<folder> TO=<folder>
	@$(PYTHON) infra/replay.py anonymise "$$FROM" "$$TO"

doubt: ## Compare orders' books with their providers' though no event leaves them in doubt, as after a restore (ORDER=<id>, or ORDERS=<file> or - for many; STAGE=local)
	@$(STACK) doubt $(REDELIVER)

# What is taken out and brought back: see infra/backup.py.
BACKUP = --folder="$$FOLDER" --tables=$(TABLES) --stage=$(or $(STAGE),local)

export: ## Take a table out into files: FOLDER=.local/backup (TABLES=events,inventory,payments,shipments,notifications SEGMENTS=4 STAGE=local; BUCKET= has DynamoDB export it to S3, AT= as it was then; OF= names another table)
	@$(STACK) export $(BACKUP) --segments=$(SEGMENTS) --bucket="$$BUCKET" --at="$$AT" --of="$$OF"

import: ## Bring an export back into a table that is empty, with nothing published: FOLDER=.local/backup (TABLES=events STAGE=local)
	@$(STACK) import $(BACKUP)

orders: ## Print which orders an export has: FOLDER=.local/backup (LACKING=<folder> for those of which another export lacks something)
	@$(STACK) orders --folder="$$FOLDER" $(if $(LACKING),--lacking="$$LACKING")

restore-drill: ## Lose all that the local stack has, bring it back, and compare (it places a dozen orders)
	@$(STACK) restore-drill

test: ## Run everything that CI runs, on a stack of its own
	@infra/local/test.sh

client: ## Build the TypeScript client and run its tests
	@node=$$($(STACK) node) && cd clients/typescript && export PATH="$$node:$$PATH" && npm ci --no-audit --no-fund && npm test

orderctl: ## Build orderctl, the service at a terminal, and print where it lies
	@$(STACK) program orderctl

cost: ## Print what a million orders of each kind cost, and why (ORDERS=20, KINDS=happy,declined, JSON=1; BUDGET=check or write)
	@$(STACK) cost --orders=$(or $(ORDERS),20) --kinds=$(KINDS) --budget=$(BUDGET) $(if $(JSON),--json)

# A workspace of its own, with a target folder of its own: what it links must never be what the functions link.
bench: ## Print how fast the service is beside named baselines (ONLY=coldstart, commands, providers, reads, rebuild or tracing; ORDERS=1000,10000)
	@cargo run --release --locked --manifest-path tests/bench/Cargo.toml --target-dir target/bench -- \
		$(ONLY) $(if $(ORDERS),--orders=$(ORDERS))

chaos: ## Kill functions, throttle tables and have providers away for a minute while 200 orders are placed, then compare the books (SEED=1 FAULTS=kills,throttling,outage)
	@$(STACK) status >/dev/null && set -a && . .local/stack.env && cargo test --workspace --locked --test system -- --ignored --nocapture chaos

poison: ## Have orders placed beside one that nobody can read, on the stack that is up; then have that one redriven, or discarded (ORDERS=20)
	@$(STACK) status >/dev/null && set -a && . .local/stack.env && ORDERS=$(or $(ORDERS),20) cargo test --workspace --locked --test system -- --ignored --nocapture dead_letters

mixed: ## Have half of the functions be the last release's and half this version's, by turns, while orders of every kind go on; then compare the books
	@LOCAL_STACK=mixed $(STACK) mixed

soak: ## Keep orders going for MINUTES=60 at half of what the stack bears, while functions are killed, then compare all books (SEED=1)
	@$(STACK) status >/dev/null && .local/tools/sam/bin/python tests/soak.py $(or $(MINUTES),60) $(if $(SEED),--seed=$(SEED))

deploy: ## Build and deploy to AWS: STAGE=dev or prod (ARCHITECTURE=arm64, STAFF_EMAIL= to make somebody staff, SEED=1 for products, REPLAY=<export> ACCEPT=<field,...> to replay it first, AT_ONCE=1 without a canary)
	@$(DEPLOY) deploy $(STAGE) $(if $(ARCHITECTURE),--architecture=$(ARCHITECTURE)) $(if $(STAFF_EMAIL),--staff="$$STAFF_EMAIL") \
		$(if $(PROMPT),--prompt) $(if $(SEED),--seed) $(if $(REPLAY),--replay="$$REPLAY") $(if $(ACCEPT),--accept="$$ACCEPT") $(if $(AT_ONCE),--at-once)

smoke: ## Place an order on what is deployed, follow it to the end and undo it (STAGE=local, dev or prod)
	@$(DEPLOY) smoke $(or $(STAGE),local)

staff: ## Make somebody staff: STAGE=dev STAFF_EMAIL=you@example.com (PROMPT=1 asks for a password instead of sending one)
	@$(DEPLOY) staff $(STAGE) "$$STAFF_EMAIL" $(if $(PROMPT),--prompt)

supervisor: ## Give somebody of staff the rights of a supervisor: STAGE=dev STAFF_EMAIL=you@example.com
	@$(DEPLOY) supervisor $(STAGE) "$$STAFF_EMAIL"

second-factor: ## Give a user a second factor: STAGE=dev WHO=you@example.com
	@$(DEPLOY) second-factor $(STAGE) "$$WHO"
