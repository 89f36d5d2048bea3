# The one door to every task. `make help` lists them.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help run test build web server agent lint unit web-test fuzz e2e screenshots setup setup-test clean

# What `make run` starts the server with; for example: make run ARGS="--port 8443 --redirport 8080"
ARGS ?=
# Folder of the store, certificates and config.json of `make run`.
DATA ?= outpost-data
# Seconds for each fuzz target in `make test`.
FUZZ_SECONDS ?= 3

help: ## This list
	@echo "Outpost: a remote-management server that lives in a small box."
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

run: setup build ## Install what is missing, build, start the server in LAN mode, print its addresses
	@exec target/release/outpost --datapath $(DATA) $(ARGS)

test: setup-test ## Install what is missing, run every check and test, print a summary
	@scripts/test.sh

build: web server agent ## Browser app, server and agent into web/dist and target/release

web: web/dist/index.html ## The browser app

web/dist/index.html: $(shell find web/src web/public web/scripts web/index.html web/vite.config.ts web/package-lock.json 2>/dev/null)
	@echo "== Browser app"
	@scripts/npm.sh web ci
	@scripts/npm.sh web run build
	@touch $@

server: web ## The server: target/release/outpost
	@echo "== Server"
	@scripts/cargo.sh build --release --package outpost

# Built by itself: together with the server it would carry what only the server asks of their libraries.
agent: ## The agent of this machine's kind: target/release/outpost-agent
	@echo "== Agent"
	@scripts/cargo.sh build --release --package outpost-agent

lint: ## Formatting, lints, licences and sources of what is built in
	@scripts/test.sh lint

unit: ## Tests of the Rust code
	@scripts/test.sh unit

web-test: ## Tests of the browser app
	@scripts/test.sh web

fuzz: ## Every parser against random input, FUZZ_SECONDS each
	@scripts/test.sh fuzz

e2e: ## The whole story: server, agent and browser in network namespaces (as root)
	@scripts/test.sh e2e

screenshots: build ## The pictures in docs/screenshots
	@OUTPOST_SCREENSHOTS=$(CURDIR)/docs/screenshots scripts/test.sh e2e

setup: ## Install what building needs
	@scripts/setup.sh build

setup-test: ## Install what building and testing need
	@scripts/setup.sh test

clean: ## Remove what was built
	rm -rf target web/dist web/node_modules fuzz/target tests/e2e/node_modules tests/e2e/output
