# tasker: workflows inside PostgreSQL.
#
#   make                 release build against the server that PG_CONFIG names
#   make WERROR=1        warnings are errors (what scripts/check does); V=1 shows the commands
#   make FAULTS=1        with fault points, for tests only
#   make install         into that server's directories
#   make installcheck    pg_regress on a running, preloaded server; REGRESS=name for one test
#   make unit lint bench bench-claims regress pgtap isolation tap doc
#
# scripts/check does all of this from nothing, set-up included.

MODULE_big = tasker
EXTENSION  = tasker
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" tasker.control)

# The install script: the pieces in this order, which is the architecture read from the bottom up.
SQL_PIECES = \
	src/store/header.sql \
	src/store/tables.sql \
	src/api/handlers.sql \
	src/api/access.sql \
	src/api/definitions.sql \
	src/api/endpoints.sql \
	src/api/tasks.sql \
	src/api/control.sql \
	src/api/signals.sql \
	src/api/queues.sql \
	src/api/limits.sql \
	src/api/breakers.sql \
	src/api/pauses.sql \
	src/api/schedules.sql \
	src/api/events.sql \
	src/api/dead_letters.sql \
	src/api/retention.sql \
	src/api/retries.sql \
	src/api/readiness.sql \
	src/api/diagnose.sql \
	src/api/graph.sql \
	src/api/health.sql \
	src/api/analytics.sql \
	src/api/metrics.sql \
	src/api/cache.sql \
	src/api/concurrency.sql \
	src/api/views.sql \
	src/api/dashboard.sql \
	src/store/finish.sql \
	src/api/grants.sql

SOURCES := src/module.cpp $(wildcard $(foreach room,core pg store engine http insight worker api,src/$(room)/*.cpp))

DATA_built = tasker--$(EXTVERSION).sql
DATA       = $(wildcard src/updates/tasker--*--*.sql)

# One order for everybody: pg_regress --schedule reads the same file.
REGRESS      = $(shell sed -n 's/^test: *//p' sql/schedule)
REGRESS_OPTS = --inputdir=. --load-extension=tasker

# A file with bitcode is used by the server's JIT to inline functions into queries; ours are never worth
# inlining, and PGXS compiles bitcode without our flags (no -std=c++20), so it would only break the build.
override with_llvm = no

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)

# Objects of two servers or of two kinds never mix: each combination has its own folder.
FLAVOUR := $(shell $(PG_CONFIG) --version | sed 's/^[^0-9]*\([0-9]*\).*/\1/')$(if $(FAULTS),-faults)
BUILD   := build/$(FLAVOUR)
OBJS    := $(SOURCES:%.cpp=$(BUILD)/%.o)
EXTRA_CLEAN = build output_iso results regression.diffs regression.out tmp_check

# -lstdc++: PGXS links with the C compiler. -z now: a missing symbol shows when the server loads us, not in
# the middle of somebody's transaction.
SHLIB_LINK = -lstdc++ -lcurl -Wl,-z,now

include $(PGXS)

# -Wno-register: PostgreSQL 15's headers still use the keyword.
# -fvisibility=hidden: only what the server must find is exported; other modules carry their own C++ classes.
TASKER_CXXFLAGS = -std=c++20 -Wall -Wextra -Wshadow -Wno-register -fvisibility=hidden -fvisibility-inlines-hidden \
	-Isrc -DTASKER_VERSION='"$(EXTVERSION)"' $(if $(FAULTS),-DTASKER_FAULTS)

# The server's headers as system headers, so that our warnings don't apply to them. Not PGXS's CPPFLAGS:
# those would give every room the path. core and http get none, so they cannot use the server even by mistake.
PG_INCLUDE = -isystem $(includedir_server) -isystem $(includedir_internal)
$(BUILD)/src/core/%.o $(BUILD)/src/http/%.o: PG_INCLUDE =

COMPILE = $(CXX) $(CXXFLAGS) $(CFLAGS_SL) $(filter -D%,$(CPPFLAGS)) $(TASKER_CXXFLAGS)

# Other flags mean other objects.
$(BUILD)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(subst ','\'',$(COMPILE))' | cmp -s - $@ || echo '$(subst ','\'',$(COMPILE))' > $@

$(OBJS): $(BUILD)/%.o: %.cpp $(BUILD)/flags
	@mkdir -p $(@D)
	$(if $(V),,@echo '  CXX $<';) $(COMPILE) $(if $(WERROR),-Werror) $(PG_INCLUDE) -MMD -MP -c -o $@ $<

# Files that become part of the library, each as one string literal for #include.
$(BUILD)/%.literal: %
	@mkdir -p $(@D)
	(printf 'R"~~~('; cat $<; printf ')~~~"') > $@.part
	mv $@.part $@
$(BUILD)/src/insight/dashboard.o: PG_INCLUDE += -I$(BUILD)
$(BUILD)/src/insight/dashboard.o: $(BUILD)/src/insight/dashboard.css.literal $(BUILD)/src/insight/dashboard.js.literal

-include $(OBJS:.o=.d)

# tasker.so is one file for all flavours: link again when the last one linked was another.
build/linked: FORCE
	@mkdir -p $(@D)
	@echo '$(FLAVOUR) $(OBJS)' | cmp -s - $@ || echo '$(FLAVOUR) $(OBJS)' > $@
$(shlib): build/linked

# Written whole or not at all.
tasker--$(EXTVERSION).sql: $(SQL_PIECES) Makefile tasker.control
	cat $(SQL_PIECES) > $@.part
	mv $@.part $@

src/%.sql:
	$(error $@ is listed in SQL_PIECES and does not exist)

unit:
	$(MAKE) -C test/unit check

lint:
	ci/lint

# Builds and installs for itself. BENCH: arguments of bench/run, as in make bench BENCH="--quick".
bench:
	scripts/bench $(BENCH)

bench-claims:
	scripts/bench --claims $(BENCH)

# On a private server, whatever else runs here.
regress pgtap isolation tap doc:
	scripts/check $@

format:
	clang-format -i $(wildcard src/*.[ch]pp src/*/*.[ch]pp)

.PHONY: unit lint bench bench-claims regress pgtap isolation tap doc format FORCE
