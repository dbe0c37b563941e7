# portal-worker: build, test, demo. `make help` lists the targets.
#
# Everything that is built goes to $(BUILD). SANITIZE=1 builds with AddressSanitizer and UBSan; give it a folder
# of its own: make BUILD=build/asan SANITIZE=1

VERSION  := 0.1.0
BUILD    ?= build
SANITIZE ?=

# --- Debian packages ---------------------------------------------------------------------------------------------

PACKAGES_BUILD := gcc libc6-dev pkg-config librabbitmq-dev libcurl4-openssl-dev libjansson-dev libpq-dev libsystemd-dev \
                  libmicrohttpd-dev dpkg-dev
PACKAGES_TEST  := amqp-tools libcmocka-dev openssl postgresql-15 rabbitmq-server prometheus \
                  dbus iproute2 procps systemd \
                  python3 python3-pytest python3-pytest-xdist python3-pika python3-psycopg2 \
                  python3-jsonschema python3-yaml
PACKAGES_BENCH := valgrind wrk
PACKAGES_COVERAGE := gcovr
PACKAGES_LINT  := clang clang-format clang-tidy libclang-rt-14-dev cppcheck shellcheck mandoc lintian
PACKAGES       := $(PACKAGES_BUILD) $(PACKAGES_TEST) $(PACKAGES_LINT)

# --- Tools and flags ---------------------------------------------------------------------------------------------

# Compilers are asked for by name only once the packages are there; a fresh machine has neither gcc nor pkg-config
# while this file is read, so whatever needs them is expanded on first use and kept.
CC = gcc
AR = ar

once       = $(eval $(1) := $(shell $(2)))$($(1))
LIBRARIES := librabbitmq libcurl jansson libpq libsystemd
PC_CFLAGS  = $(call once,PC_CFLAGS,pkg-config --cflags $(LIBRARIES))
PC_LIBS    = $(call once,PC_LIBS,pkg-config --libs $(LIBRARIES))
EMU_LIBS   = $(call once,EMU_LIBS,pkg-config --libs libmicrohttpd jansson)
UNIT_LIBS  = $(call once,UNIT_LIBS,pkg-config --libs cmocka)

CPPFLAGS_OWN = -D_GNU_SOURCE -DPORTAL_VERSION='"$(VERSION)"' -Iinclude $(PC_CFLAGS)
WARNINGS    := -Wall -Wextra -Wshadow -Wconversion -Werror
CFLAGS_OWN  := -std=gnu17 $(WARNINGS) -O2 -g -pthread

ifeq ($(SANITIZE),)
HARDENING := -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fstack-clash-protection -ftrivial-auto-var-init=zero -fPIE
ifeq ($(shell uname -m),x86_64)
HARDENING += -fcf-protection
endif
LINKING   := -pie -Wl,-z,relro,-z,now,-z,noexecstack -Wl,--as-needed
else
HARDENING := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
LINKING   := -fsanitize=address,undefined
endif

COMPILE = $(CC) $(CPPFLAGS_OWN) $(CPPFLAGS) $(CFLAGS_OWN) $(HARDENING) $(CFLAGS)
LINK    = $(CC) $(CFLAGS_OWN) $(HARDENING) $(LINKING) $(LDFLAGS)

# --- Sources -----------------------------------------------------------------------------------------------------

# Whatever is not a program's main file is in one archive; the programs and the unit tests link against it.
MAIN_WORKER := worker/daemon/main.c
MAIN_CTL    := worker/ctl/portalctl.c
LIBRARY     := $(filter-out $(MAIN_WORKER) $(MAIN_CTL),$(wildcard worker/*/*.c))
EMULATOR    := $(wildcard tests/stripe-emulator/*.c)
UNIT_TESTS  := $(wildcard tests/unit/test_*.c)
UNIT_HELP   := $(filter-out $(UNIT_TESTS),$(wildcard tests/unit/*.c))

SIMULATOR   := $(wildcard tests/simulation/*.c)

ALLOCATION  := $(wildcard tests/allocation/*.c)

BENCH       := $(wildcard tests/bench/*.c)

SOURCES := $(MAIN_WORKER) $(MAIN_CTL) $(LIBRARY) $(EMULATOR) $(UNIT_TESTS) $(UNIT_HELP) $(wildcard tests/fuzz/*.c) $(SIMULATOR) $(ALLOCATION) $(BENCH)
HEADERS := $(wildcard include/*/*.h worker/*/*.h tests/*/*.h)
SCRIPTS := .ci/run .ci/install-packages $(wildcard .ci/*.sh tests/*/*.sh systemd/*/*.sh systemd/completion/*.bash systemd/debian/p*rm systemd/debian/postinst)

object        = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
UNIT_PROGRAMS = $(patsubst %.c,$(BUILD)/%,$(UNIT_TESTS))
PROGRAMS      = $(BUILD)/portal-worker $(BUILD)/portalctl $(BUILD)/stripe-emulator

# --- Build -------------------------------------------------------------------------------------------------------

.DELETE_ON_ERROR:
.SUFFIXES:
.SECONDARY:
MAKEFLAGS += --no-builtin-rules --no-print-directory
ifeq ($(MAKELEVEL),0)
MAKEFLAGS += -j$(shell nproc)
endif

.PHONY: all packages build-packages unit-programs demo dev migrate unit system test ci-extra clean help
all: $(PROGRAMS)  ## build the worker, portalctl and the Stripe emulator (the default)

packages:  ## install the Debian packages that are missing, if any
	@.ci/install-packages $(PACKAGES)

# Whoever only builds and installs gets no servers.
build-packages:
	@.ci/install-packages $(PACKAGES_BUILD)

# Rebuild all when the flags or the version change.
$(BUILD)/flags: FORCE | build-packages
	@mkdir -p $(@D)
	@printf '%s\n' '$(subst ','\'',$(COMPILE) / $(LINK))' | cmp -s - $@ || printf '%s\n' '$(subst ','\'',$(COMPILE) / $(LINK))' >$@
.PHONY: FORCE

$(BUILD)/obj/%.o: %.c $(BUILD)/flags | build-packages
	@mkdir -p $(@D)
	@echo "  CC    $<"
	@$(COMPILE) -MMD -MP -c -o $@ $<

$(BUILD)/libportal.a: $(call object,$(LIBRARY))
	@echo "  AR    $@"
	@rm -f $@ && $(AR) rcs $@ $^

$(BUILD)/portal-worker: $(call object,$(MAIN_WORKER)) $(BUILD)/libportal.a
	@echo "  LINK  $@"
	@$(LINK) -o $@ $^ $(PC_LIBS)

$(BUILD)/portalctl: $(call object,$(MAIN_CTL)) $(BUILD)/libportal.a
	@echo "  LINK  $@"
	@$(LINK) -o $@ $^ $(PC_LIBS)

$(BUILD)/stripe-emulator: $(call object,$(EMULATOR))
	@echo "  LINK  $@"
	@$(LINK) -o $@ $^ $(EMU_LIBS) -lm

# The simulator is in front of the core's request_read(), so that a poisonous message can crash whoever reads it.
$(BUILD)/simulate: $(call object,$(SIMULATOR)) $(BUILD)/libportal.a
	@echo "  LINK  $@"
	@$(LINK) -Wl,--wrap=request_read -o $@ $^ $(PC_LIBS)

# The simulated world around a core in which each allocation may fail, and no other.
$(BUILD)/libfallible.a: $(call object,$(filter worker/portal/%,$(LIBRARY)))
	@rm -f $@ && $(AR) rcs $@ $^
	@objcopy $(foreach name,malloc calloc realloc strdup strndup tsearch json_loadb,--redefine-sym $(name)=fallible_$(name)) $@

$(BUILD)/allocation: $(call object,$(ALLOCATION) $(filter-out %/simulate.c %/shrink.c,$(SIMULATOR))) $(BUILD)/libfallible.a
	@echo "  LINK  $@"
	@$(LINK) -Wl,--wrap=request_read -Wl,--wrap=portal_new -Wl,--wrap=stripe_told_used_up -o $@ $^ $(PC_LIBS)

$(BUILD)/bench-%: $(BUILD)/obj/tests/bench/%.o
	@echo "  LINK  $@"
	@$(LINK) -o $@ $^ $(PC_LIBS)

$(call object,$(UNIT_TESTS) $(UNIT_HELP)): | packages
unit-programs: $(UNIT_PROGRAMS)
$(UNIT_PROGRAMS): $(BUILD)/%: $(BUILD)/obj/%.o $(call object,$(UNIT_HELP)) $(BUILD)/libportal.a
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	@$(LINK) -o $@ $^ $(UNIT_LIBS) $(PC_LIBS)

# Where each allocation may fail (tests/unit/failing.h).
$(BUILD)/tests/unit/test_replay $(BUILD)/tests/unit/test_letter: \
  private LINKING += -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup

-include $(patsubst %.o,%.d,$(call object,$(SOURCES)))

# --- Run ---------------------------------------------------------------------------------------------------------

# Anything that builds and then runs takes $(BUILD)/.lock for the build, so that two runs in one clone do not meet.
BUILT = mkdir -p $(BUILD) && flock $(BUILD)/.lock $(MAKE) all
BED   = BUILD='$(BUILD)' PYTHONPATH=tests PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 -m
RUN   = MAKE='$(MAKE)' BUILD='$(BUILD)' SANITIZE='$(SANITIZE)' tests/run

demo: packages  ## start private servers, send a few requests, show what comes back, stop all
	@+$(BUILT) >&2
	@$(BED) bed.demo demo

dev: packages  ## as demo, but leave all running until Ctrl-C and print how to connect
	@+$(BUILT) >&2
	@$(BED) bed.demo dev

migrate: $(BUILD)/portalctl  ## bring the schema `portal` of $DATABASE_URL up to date
	@$(BUILD)/portalctl migrate --directory sql

# --- Test --------------------------------------------------------------------------------------------------------

unit: packages  ## unit tests
	@+$(RUN) unit

system: packages  ## system tests on real servers; PYTEST="-k name" chooses
	@+$(RUN) system

test: packages  ## lint, unit tests, simulation, failing allocations, system tests; ends with one line: N passed, N failed
	@+$(RUN) lint unit simulation allocation system

# tests/simulation/README.md says more.
SEEDS ?= 1..2000
STEPS ?= 100
.PHONY: simulate
simulate: packages  ## the core through every kind of trouble, on a virtual clock; SEEDS=1..2000 STEPS=100
	@+mkdir -p $(BUILD) && flock $(BUILD)/.lock $(MAKE) $(BUILD)/simulate
	@$(BUILD)/simulate --seeds $(SEEDS) --steps $(STEPS) --shrink

.PHONY: allocation
allocation: packages  ## requests' lives with the first, the second, the third … allocation failing
	@+$(RUN) allocation

.PHONY: mutants
mutants: packages  ## the simulator with one deliberate bug after the other, each of which it has to find
	@+mkdir -p $(BUILD) && flock $(BUILD)/.lock $(MAKE) $(BUILD)/simulate
	@BUILD='$(BUILD)' COMPILE='$(COMPILE)' LINK='$(LINK)' LIBS='$(PC_LIBS)' SEEDS='$(SEEDS)' tests/simulation/mutants/run

# tests/chaos/README.md says more.
MINUTES ?= 10
SEED    ?=
.PHONY: chaos
chaos: packages  ## kill, stop and cut off real servers under load; MINUTES=10 SEED=…
	@+$(BUILT) >&2
	@SANITIZE='$(SANITIZE)' $(BED) chaos.chaos $(MINUTES) $(SEED)

# tests/bench/README.md says more. What it needs beyond the tests is installed for it alone.
REQUESTS ?= 10000
.PHONY: bench
bench: packages  ## what a request costs, beside the least it could cost here; REQUESTS=10000
	@.ci/install-packages $(PACKAGES_BENCH) || true
	@+$(BUILT) $(BENCH:tests/bench/%.c=$(BUILD)/bench-%) >&2
	@$(BED) bench.bench $(REQUESTS)

# Each target in tests/fuzz/ is built twice: with libFuzzer, to look for crashes, and without, to run the corpus, and
# with it every crash that was ever found, in each `make test`.
SECONDS      ?= 60
FUZZ_TARGETS := request stripe answer features settings replay
FUZZ_FLAGS   := -std=gnu17 -Wall -Wextra -Wno-c2x-extensions -Wno-unused-variable -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all
.PHONY: fuzz regress-programs
fuzz: packages  ## fuzz each target for SECONDS=60; new inputs go to build/corpus/, crashes to tests/fuzz/corpus/
	@+mkdir -p $(BUILD) && flock $(BUILD)/.lock $(MAKE) $(FUZZ_TARGETS:%=$(BUILD)/fuzz/%)
	@+$(MAKE) -j$(words $(FUZZ_TARGETS)) --output-sync=target $(FUZZ_TARGETS:%=fuzz-%) && echo "$(words $(FUZZ_TARGETS)) passed, 0 failed"

fuzz-%: $(BUILD)/fuzz/%
	@mkdir -p $(BUILD)/corpus/$*
	@$< -max_total_time=$(SECONDS) -max_len=4096 -timeout=10 -verbosity=0 -print_final_stats=1 \
	  -artifact_prefix=tests/fuzz/corpus/$*/ $(BUILD)/corpus/$* tests/fuzz/corpus/$* >$(BUILD)/corpus/$*.log 2>&1 || \
	  { cat $(BUILD)/corpus/$*.log; echo "0 passed, 1 failed"; exit 1; }
	@echo "  ok    $*: $$(sed -n 's/^stat::number_of_executed_units: *//p' $(BUILD)/corpus/$*.log) inputs in $(SECONDS) s"

$(BUILD)/fuzz/obj/%.o: %.c $(BUILD)/flags | packages
	@mkdir -p $(@D)
	@clang $(CPPFLAGS_OWN) $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link -pthread -MMD -MP -c -o $@ $<

$(BUILD)/fuzz/libportal.a: $(LIBRARY:%.c=$(BUILD)/fuzz/obj/%.o)
	@rm -f $@ && $(AR) rcs $@ $^

$(BUILD)/fuzz/%: $(BUILD)/fuzz/obj/tests/fuzz/fuzz_%.o $(BUILD)/fuzz/libportal.a
	@echo "  FUZZ  $@"
	@clang $(FUZZ_FLAGS) -fsanitize=fuzzer -pthread -o $@ $^ $(PC_LIBS)

-include $(LIBRARY:%.c=$(BUILD)/fuzz/obj/%.d)

regress-programs: $(FUZZ_TARGETS:%=$(BUILD)/regress/%)
$(BUILD)/regress/%: $(BUILD)/obj/tests/fuzz/fuzz_%.o $(BUILD)/obj/tests/fuzz/regress.o $(BUILD)/libportal.a
	@mkdir -p $(@D)
	@echo "  LINK  $@"
	@$(LINK) -o $@ $^ $(PC_LIBS)

# Optimised code would merge branches. What ends in order writes what it went through; so do workers, on SIGTERM.
COVERAGE_FLAGS := --coverage -fprofile-update=atomic -O0 -U_FORTIFY_SOURCE
.PHONY: coverage
coverage: packages  ## lines and branches of worker/ that the tests reach; pages in build/coverage/html
	@.ci/install-packages $(PACKAGES_COVERAGE)
	@find $(BUILD)/coverage -name '*.gcda' -delete 2>/dev/null || true
	@+CFLAGS='$(COVERAGE_FLAGS)' LDFLAGS=--coverage $(MAKE) BUILD=$(BUILD)/coverage coverage-tests; \
	status=$$?; tests/coverage $(BUILD)/coverage && exit $$status

.PHONY: coverage-tests
coverage-tests: packages
	@+$(RUN) unit simulation allocation system

# What is too long for every run. Each part ends with a line of its own.
ci-extra: packages  ## fresh seeds, mutants, long outages, rate, cluster, deployment, fuzzing, chaos, and all under sanitizers
	@+$(RUN) fresh mutants slow
	@+$(MAKE) fuzz SECONDS=60
	@+$(MAKE) chaos MINUTES=1
	@+$(MAKE) BUILD=$(BUILD)/asan SANITIZE=1 sanitized

.PHONY: sanitized
sanitized: packages
	@+$(RUN) unit allocation system

# --- Lint --------------------------------------------------------------------------------------------------------

LINTS := lint-format lint-tidy lint-cppcheck lint-shellcheck lint-warnings
.PHONY: lint format $(LINTS)
lint: packages  ## formatting, clang-tidy, cppcheck, shellcheck, warnings as errors
	@+$(RUN) lint

lint-format: packages
	@files=$$(clang-format --dry-run --Werror $(SOURCES) $(HEADERS) 2>&1 | sed -n 's/^\([^: ]*\.[ch]\):.*/  \1/p' | sort -u); \
	if [ -n "$$files" ]; then printf 'Not formatted; `make format` does it:\n%s\n' "$$files" >&2; exit 1; fi

format: packages  ## format the C sources
	@clang-format -i $(SOURCES) $(HEADERS)

lint-warnings: $(call object,$(SOURCES))

# A file is looked at again when its object was rebuilt, which is when the file or one of its headers changed.
lint-tidy: $(patsubst %.c,$(BUILD)/lint/%.tidy,$(SOURCES))
$(BUILD)/lint/%.tidy: $(BUILD)/obj/%.o .clang-tidy | packages
	@mkdir -p $(@D)
	@echo "  TIDY  $*.c"
	@clang-tidy --quiet --warnings-as-errors='*' $*.c -- $(CPPFLAGS_OWN) -std=gnu17 2>$@.log || { cat $@.log; exit 1; }
	@touch $@

lint-cppcheck: $(patsubst %.c,$(BUILD)/lint/%.cppcheck,$(SOURCES))
$(BUILD)/lint/%.cppcheck: $(BUILD)/obj/%.o | packages
	@mkdir -p $(@D)
	@echo "  CHECK $*.c"
	@cppcheck --quiet --std=c11 --enable=warning,portability,performance --inline-suppr --error-exitcode=1 \
	  --suppress=missingIncludeSystem --include=$(wildcard /usr/include/*/sys/queue.h) -D_GNU_SOURCE -D__GNUC__=12 -DPORTAL_VERSION='"$(VERSION)"' -Iinclude $*.c
	@touch $@

lint-shellcheck: packages
	@shellcheck $(SCRIPTS)

# --- Install and package -----------------------------------------------------------------------------------------

PREFIX        ?= /usr/local
DESTDIR       ?=
BINDIR         = $(PREFIX)/bin
DATADIR        = $(PREFIX)/share/portal-worker
MANDIR         = $(PREFIX)/share/man
DOCDIR         = $(PREFIX)/share/doc/portal-worker
UNITDIR        = $(PREFIX)/lib/systemd/system
CATALOGDIR     = $(PREFIX)/lib/systemd/catalog
COMPLETIONDIR  = $(PREFIX)/share/bash-completion/completions
CONFIGURATION := /etc/portal-worker

# What goes where, as source:place:mode. The worker's unit serves under two names.
UNITS   := portal-worker.service portal-worker-purge.service portal-worker-purge.timer
INSTALLS = $(BUILD)/portal-worker:$(BINDIR)/portal-worker:755 $(BUILD)/portalctl:$(BINDIR)/portalctl:755 \
  $(foreach unit,$(UNITS),systemd/$(unit):$(UNITDIR)/$(unit):644) \
  systemd/portal-worker.service:$(UNITDIR)/portal-worker@.service:644 \
  systemd/portal-worker.catalog:$(CATALOGDIR)/portal-worker.catalog:644 \
  systemd/portal-worker.env:$(DOCDIR)/examples/portal-worker.env:644 \
  $(foreach file,$(wildcard systemd/prometheus/*),$(file):$(DATADIR)/$(notdir $(file)):644) \
  $(foreach page,$(wildcard systemd/man/*.[1-8]),$(page):$(MANDIR)/man$(subst .,,$(suffix $(page)))/$(notdir $(page)):644) \
  $(foreach file,$(wildcard systemd/completion/*.bash),$(file):$(COMPLETIONDIR)/$(basename $(notdir $(file))):644) \
  $(foreach file,$(wildcard sql/*.sql),$(file):$(DATADIR)/sql/$(notdir $(file)):644) \
  $(foreach file,$(wildcard sql/application/*.sql),$(file):$(DATADIR)/sql/application/$(notdir $(file)):644) \
  $(foreach file,$(wildcard include/contract/*),$(file):$(DATADIR)/contract/$(notdir $(file)):644)

# What names the places of the Debian package, to be put right for others.
PLACES = $(UNITS:%=$(UNITDIR)/%) $(UNITDIR)/portal-worker@.service $(MANDIR)/man7/portal-worker.7 $(MANDIR)/man8/portal-worker.8

# Where nothing is staged and systemd runs.
TELL_SYSTEMD = [ -n "$(DESTDIR)" ] || [ ! -d /run/systemd/system ] || { journalctl --update-catalog; systemctl daemon-reload; }

# Nothing but the programs is made in $(BUILD): "make && sudo make install" leaves nothing of root's there.
.PHONY: install uninstall deb
install: $(BUILD)/portal-worker $(BUILD)/portalctl  ## install under PREFIX=/usr/local, into DESTDIR where it is given
	@set -e; for each in $(INSTALLS); do place=$${each#*:}; \
	  install -D -m "$${each##*:}" "$${each%%:*}" "$(DESTDIR)$${place%:*}"; done
	@sed -i 's|/usr/bin/portal|$(BINDIR)/portal|; s|/usr/share/|$(PREFIX)/share/|' $(PLACES:%="$(DESTDIR)%")
	@install -d -m 755 $(DESTDIR)$(CONFIGURATION) && install -d -m 700 $(DESTDIR)$(CONFIGURATION)/credentials
	@$(TELL_SYSTEMD)

uninstall:  ## remove what was installed; settings and credentials stay
	@for each in $(INSTALLS); do place=$${each#*:}; rm -f "$(DESTDIR)$${place%:*}"; done
	@for folder in $(DATADIR)/sql/application $(DATADIR)/sql $(DATADIR)/contract $(DATADIR) $(DOCDIR)/examples $(DOCDIR) \
	  $(CONFIGURATION)/credentials $(CONFIGURATION); do rmdir --ignore-fail-on-non-empty "$(DESTDIR)$$folder" 2>/dev/null || true; done
	@$(TELL_SYSTEMD)

DEB = $(BUILD)/deb
deb: build-packages  ## a Debian package of it, in $(BUILD)
	@rm -rf $(DEB) $(BUILD)/portal-worker_*.deb && mkdir -p $(DEB)
	@+$(MAKE) install BUILD='$(BUILD)' DESTDIR='$(DEB)/root' PREFIX=/usr UNITDIR=/lib/systemd/system
	@systemd/debian/make-package.sh '$(VERSION)' '$(DEB)' '$(BUILD)'

# --- The rest ----------------------------------------------------------------------------------------------------

clean:  ## remove what was built
	rm -rf $(BUILD)

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/\1|\2/p' $(firstword $(MAKEFILE_LIST)) | while IFS='|' read -r name text; do \
	  printf '  %-10s %s\n' "$$name" "$$text"; done
