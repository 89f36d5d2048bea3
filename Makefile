# The one door to every task. `make help` lists them.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help run test build web server agent agents lint unit web-test fuzz e2e kms compat bench cross cross-test deb deb-test dist yocto-check image bundle update-keys qemu image-test boards-test screenshots setup setup-test clean

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

# The version that the descriptions were checked against.
MESHCENTRAL ?= 1.1.55

agents: server ## MeshCentral's agents (Windows, macOS, BSD, OpenWrt, …) from npm into DATA
	@echo "== MeshCentral's agents"
	@scripts/agents.sh $(MESHCENTRAL) $(DATA)

# Which kind of machine to build for; empty: all four of scripts/cross.sh.
TARGET ?=

cross: web ## Static server and agent for TARGET, or for all four, into dist/<target>
	@scripts/setup.sh cross
	@scripts/cross.sh $(TARGET)

cross-test: ## Static programs of all kinds, run by an emulator of their processors
	@scripts/test.sh cross

# Kinds of machine of the package: amd64, arm64, armhf; empty: this machine's.
KIND ?=

deb: ## A Debian package of the server for KIND, from dist
	@scripts/deb.sh $(KIND)

deb-test: ## The package of this machine's kind, on a machine with a real systemd (as root)
	@scripts/test.sh deb

dist: web ## The source with everything that building needs, for building without a network, into dist
	@scripts/dist.sh

yocto-check: ## The layer meta-outpost, as far as it can be checked without bitbake
	@scripts/test.sh yocto

# Which board the image is for: a folder of board/.
BOARD ?= qemu-arm64

image: ## A card image for BOARD, with the programs of dist, into dist/image
	@scripts/setup.sh image
	@scripts/image.sh $(BOARD)

bundle: ## A signed update of BOARD's image, for boxes that have it already
	@scripts/setup.sh image
	@scripts/bundle.sh $(BOARD)

# Where the keys of updates are.
KEYS ?= keys
export KEYS

update-keys: ## Keys that updates are signed with, into KEYS: docs/appliance-building.md
	@scripts/update-keys.sh $(KEYS)

qemu: ## The image of the board qemu-arm64, running here; PORT=8443
	@scripts/qemu.sh

# How many power cuts; more find more.
CUTS ?= 50

image-test: ## The image of the board qemu-arm64: used, updated, damaged, reset, switched off CUTS times
	@CUTS=$(CUTS) scripts/test.sh image

boards-test: ## The images for the Raspberry Pis of 32 bits, in emulated ones
	@scripts/test.sh boards

lint: ## Formatting, lints, licences and sources of what is built in
	@scripts/test.sh lint

unit: ## Tests of the Rust code
	@scripts/test.sh unit

web-test: ## Tests of the browser app
	@scripts/test.sh web

fuzz: ## Every parser against random input, FUZZ_SECONDS each
	@scripts/test.sh fuzz

e2e: build ## The whole story: server, agent and browser in network namespaces (as root)
	@scripts/test.sh e2e

kms: build ## A screen without X: the agent in a virtual machine with a graphics card
	@scripts/test.sh kms

compat: agent server ## The same commands against MeshCentral and Outpost, compared
	@scripts/test.sh compat

bench: build ## What the relay and desktop sessions cost, beside MeshCentral's server and agent (as root)
	@scripts/cargo.sh build --release --package outpost-agent --example motion
	@node tests/compat/install.mjs
	@node scripts/bench/relay.mjs
	@node scripts/bench/desktop.mjs

screenshots: build ## The pictures in docs/screenshots
	@OUTPOST_SCREENSHOTS=$(CURDIR)/docs/screenshots scripts/test.sh e2e kms
	@OUTPOST_SCREENSHOTS=$(CURDIR)/docs/screenshots node web/tests/walk.mjs box

setup: ## Install what building needs
	@scripts/setup.sh build

setup-test: ## Install what building and testing need
	@scripts/setup.sh test

clean: ## Remove what was built
	rm -rf target web/dist web/node_modules fuzz/target tests/e2e/node_modules tests/e2e/output
