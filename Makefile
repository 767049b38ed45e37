# make demo and make test do all the set-up they need; see README.md.
PREFIX  ?= /usr/local
DESTDIR ?=
# Below PREFIX. Debian has vendor-completions for zsh.
ZSH_DIR ?= share/zsh/site-functions
# Where systemd looks for units of users; below a home directory it is another place.
USER_UNIT_DIR ?= $(if $(filter $(HOME)/%,$(PREFIX)),share,lib)/systemd/user
NPM     := npm
# make test TESTS='dist/test/unit/fuse/*.test.js'; see test/support/run-suite.ts
TESTS   ?= 'dist/test/**/*.test.js'
# What needs neither mounts nor root.
CHECK   := $(addprefix dist/test/,unit matrix check cli writing concurrency)
# What has no natural end: more seeds, more operations, all combinations. Others are the same in make test.
LONG    := $(addprefix dist/test/,matrix writing concurrency fuzz unit/luks/qemu-oracle.test.js check/random.test.js \
  $(addsuffix .test.js,$(addprefix mount/,conformance contention damage error-map kill launch overlay space writing writing-fio)))
# make test-long SLICE=2/8: the second of eight parts.
SLICE   ?=

# Packages bear the time of the last commit. The sources of a tarball have that time, too.
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || date -u -r package.json +%s)

.PHONY: all build demo check test test-long fuzz bench lint format install uninstall deb dist clean

all: build

build: node_modules/.package-lock.json
	$(NPM) run --silent build

node_modules/.package-lock.json: package.json package-lock.json
	$(NPM) ci --no-fund --no-audit --loglevel=error
	@touch $@

demo: build
	contrib/example/demo

RUN_SUITE := node dist/test/support/run-suite.js

check: build
	sh test/support/requirements.sh check
	$(NPM) run --silent lint
	QCOW2FS_LANE=check $(RUN_SUITE) $(CHECK)

test: build
	sh test/support/requirements.sh
	$(NPM) run --silent lint
	$(RUN_SUITE) $(TESTS)

test-long: build
	sh test/support/requirements.sh
	QCOW2FS_LANE=long QCOW2FS_SLICE=$(SLICE) $(RUN_SUITE) $(LONG)

# make fuzz FUZZ='--seconds 3600 --seed 5 --target image'; findings go to fuzz-findings/
fuzz: build
	node dist/test/fuzz/fuzz.js $(FUZZ)

bench: build
	node dist/test/bench/bench.js --out contrib/docs $(BENCH)

lint: node_modules/.package-lock.json
	$(NPM) run --silent lint

format: node_modules/.package-lock.json
	$(NPM) run --silent format

install: build
	@ZSH_DIR='$(ZSH_DIR)' USER_UNIT_DIR='$(USER_UNIT_DIR)' contrib/build/install '$(DESTDIR)' '$(PREFIX)'

uninstall:
	@contrib/build/install --undo '$(DESTDIR)' '$(PREFIX)'

# dist/qcow2fs_VERSION_ARCH.deb
deb: build
	@SOURCE_DATE_EPOCH='$(SOURCE_DATE_EPOCH)' contrib/debian/build dist

# dist/qcow2fs-VERSION.tar.gz, the sources of the last commit, and dist/qcow2fs-VERSION.tgz, for npm
dist: build
	@contrib/build/dist dist

clean:
	rm -rf dist node_modules
