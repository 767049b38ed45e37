# make demo and make test do all the set-up they need; see README.md.
PREFIX  ?= /usr/local
DESTDIR ?=
NPM     := npm
# make test TESTS='dist/test/unit/fuse/*.test.js'; see test/support/run-suite.ts
TESTS   ?= 'dist/test/**/*.test.js'

libdir := $(DESTDIR)$(PREFIX)/lib/qcow2fs
bindir := $(DESTDIR)$(PREFIX)/bin

.PHONY: all build demo test fuzz bench lint format install uninstall clean

all: build

build: node_modules/.package-lock.json
	$(NPM) run --silent build

node_modules/.package-lock.json: package.json package-lock.json
	$(NPM) ci --no-fund --no-audit --loglevel=error
	@touch $@

demo: build
	contrib/example/demo

test: build
	sh test/support/requirements.sh
	$(NPM) run --silent lint
	node dist/test/support/run-suite.js $(TESTS)

# make fuzz FUZZ='--seconds 3600 --seed 5 --target image'; findings go to fuzz-findings/
fuzz: build
	node dist/test/fuzz/fuzz.js $(FUZZ)

bench: build
	node dist/test/bench/bench.js --out contrib/docs $(BENCH)

lint: node_modules/.package-lock.json
	$(NPM) run --silent lint

format: node_modules/.package-lock.json
	$(NPM) run --silent format

# The installed tree holds what `npm pack` would ship, and the dependencies as package-lock.json names them.
install: build
	install -d $(libdir)/dist $(bindir)
	cp -R bin contrib package.json package-lock.json .npmrc README.md LICENSE CHANGELOG.md $(libdir)/
	cp -R dist/app $(libdir)/dist/
	cd $(libdir) && $(NPM) ci --omit=dev --no-fund --no-audit --loglevel=error
	ln -sf ../lib/qcow2fs/bin/qcow2fs $(bindir)/qcow2fs

uninstall:
	rm -f $(bindir)/qcow2fs
	rm -rf $(libdir)

clean:
	rm -rf dist node_modules
