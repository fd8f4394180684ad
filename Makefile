# werunos: build, test, install. `make help` lists the targets.
MODE   ?= release
ifeq ($(origin CC),default)
CC     := gcc
endif
PREFIX ?= /usr/local
B      := build/$(MODE)
# V=1 shows the commands.
Q      := $(if $(V),,@)
say     = $(if $(V),,@echo '  $(1) $@')

LAYERS  := lib block jbd2 vfs fs/memfs fs/ext4 fs/btrfs fs
KSRC    := $(foreach l,$(LAYERS),$(sort $(wildcard kernel/$(l)/*.c kernel/$(l)/check/*.c)))
HSRC    := $(sort $(wildcard host/*.c host/fuse/*.c host/import/*.c host/api/*.c))
# The program's own; the rest of host is the library's too (tests/tidy.py knows them by the same names).
PSRC    := $(filter host/fuse/% host/cmd_% $(addprefix host/,main.c cli.c tool.c edit.c mode.c mountopts.c import/copy_cli.c),$(HSRC))
KOBJ    := $(KSRC:%.c=$(B)/%.o)
HOBJ    := $(HSRC:%.c=$(B)/%.o)
LOBJ    := $(patsubst %.c,$(B)/%.o,$(filter-out $(PSRC),$(HSRC)))
TSUP    := $(sort $(wildcard tests/support/*.c))
TSUPOBJ := $(TSUP:%.c=$(B)/%.o)
UNIT    := $(patsubst %.c,$(B)/%,$(sort $(shell find tests/unit -name 'test_*.c')))
# Suites: the sources of tests/SUITE make the program tests/SUITE/SUITE. Tools: one source each.
SUITES  := $(foreach s,conform model crash,$(if $(wildcard tests/$(s)/*.c),$(s)))
TOOLS   := $(patsubst %.c,$(B)/%,$(sort $(wildcard tests/tools/*.c)))
TPROG   := $(TOOLS) $(foreach s,$(SUITES),$(B)/tests/$(s)/$(s))

# What the library needs, and with fuse3 the program; libarchive is loaded when an archive is met (host/import/archive_lib.h).
LPKGS    := liburing jansson blkid uuid libutf8proc libgcrypt libxxhash zlib libzstd libdeflate lzo2
PKGS     := fuse3 $(LPKGS)
# Asked only when something is compiled, so that `make deps` works on a bare machine.
PKG_CF    = $(shell pkg-config --cflags $(PKGS) libarchive)
PKG_LD    = $(shell pkg-config --libs $(PKGS)) -lisal
LPKG_LD   = $(shell pkg-config --libs $(LPKGS)) -lisal
WARN     := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla -Wundef
CPPFLAGS := -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DFUSE_USE_VERSION=312 -Ikernel -Ikernel/fs -Ihost -Itests
CFLAGS_release := -O2 -g -D_FORTIFY_SOURCE=2
CFLAGS_debug   := -Og -g -DWERUNOS_DEBUG
CFLAGS_asan    := -O1 -g -DWERUNOS_DEBUG -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
CFLAGS_tsan    := -O1 -g -DWERUNOS_DEBUG -fsanitize=thread
CFLAGS_cov     := -O0 -g --coverage
# PIC, and nothing visible: the same objects make the program, and the library, whose header names what is seen.
HARDEN         := -fPIC -fvisibility=hidden -fstack-protector-strong -fstack-clash-protection -fcf-protection
LDHARDEN       := -pie -Wl,-z,relro,-z,now
ALL_CFLAGS      = -std=gnu11 $(WARN) $(CFLAGS_$(MODE)) $(HARDEN) $(CPPFLAGS) $(PKG_CF) $(CFLAGS)
ALL_LDFLAGS     = $(CFLAGS_$(MODE)) $(LDHARDEN) $(LDFLAGS)

# Objects of tests are kept.
.SECONDARY:
.PHONY: all lib tests deps help clean check check-fast check-run check-long tidy format install demo bench fuzz unit objects
all: $(B)/werunos lib ## build the program and the library (MODE=release|debug|asan|tsan)

SONAME  := libwerunos.so.0
VERSION  = $(shell sed -n 's/^\#define WERUNOS_VERSION "\(.*\)"/\1/p' host/api/werunos.h)
lib: $(B)/libwerunos.a $(B)/$(SONAME) ## build the library

$(B)/kernel.a: $(KOBJ)
	@rm -f $@
	$(call say,AR)
	$(Q)ar rcs $@ $^

$(B)/werunos: $(HOBJ) $(B)/kernel.a
	$(call say,LD)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(PKG_LD) -lpthread

# One object of all, in which the names of the inside are nobody else's.
$(B)/libwerunos.o: $(LOBJ) $(KOBJ)
	$(call say,LD)
	$(Q)$(LD) -r -o $@ $^
	$(Q)objcopy --localize-hidden $@

$(B)/libwerunos.a: $(B)/libwerunos.o
	@rm -f $@
	$(call say,AR)
	$(Q)ar rcs $@ $^

$(B)/$(SONAME): $(LOBJ) $(KOBJ)
	$(call say,LD)
	$(Q)$(CC) $(CFLAGS_$(MODE)) $(LDFLAGS) -shared -Wl,-soname,$(SONAME),-z,relro,-z,now,-z,defs -o $@ $^ $(LPKG_LD) -lpthread

# Other flags are other objects.
$(B)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# Host code without main(), for tests that need it.
$(B)/host.a: $(filter-out $(B)/host/main.o,$(HOBJ))
	@rm -f $@
	$(call say,AR)
	$(Q)ar rcs $@ $^

$(B)/support.a: $(TSUPOBJ)
	@rm -f $@
	$(call say,AR)
	$(Q)ar rcs $@ $^

$(B)/tests/unit/%: $(B)/tests/unit/%.o $(B)/support.a $(B)/host.a $(B)/kernel.a
	$(call say,LD)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(PKG_LD) -lcmocka -lpthread

$(TOOLS): $(B)/tests/%: $(B)/tests/%.o $(B)/support.a $(B)/host.a $(B)/kernel.a
	$(call say,LD)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(PKG_LD) -lcmocka -lpthread

define SUITE
$(B)/tests/$(1)/$(1): $(patsubst %.c,$(B)/%.o,$(sort $(wildcard tests/$(1)/*.c))) $(B)/support.a $(B)/host.a $(B)/kernel.a
	$$(call say,LD)
	$$(Q)$$(CC) $$(ALL_LDFLAGS) -o $$@ $$^ $$(PKG_LD) -lpthread
endef
$(foreach s,$(SUITES),$(eval $(call SUITE,$(s))))

objects: $(KOBJ) $(HOBJ)
unit: $(UNIT) ## build the unit tests
tests: $(UNIT) $(TPROG) $(B)/tests/tools/explore_any_sum $(B)/tests/tools/abuse_any_sum $(B)/tests/crash/crash_teeth $(B)/tests/tools/quotas_teeth

deps: ## install what building and testing need (Debian; apt, with sudo when not root)
	@tests/deps.sh

check: deps ## run all tests of the fast set (installs what it needs)
	@$(MAKE) --no-print-directory check-run

check-run: all tests
	@$(MAKE) --no-print-directory MODE=asan build/asan/werunos $(addprefix build/asan/tests/tools/,explore explore_any_sum abuse abuse_any_sum)
	@tests/run.sh all

check-fast: deps ## the tests that need neither root nor a mount, in a minute or two
	@$(MAKE) --no-print-directory all tests
	@tests/run.sh fast

check-long: deps ## everything, also what takes longer than ten minutes
	@$(MAKE) --no-print-directory all tests
	@$(MAKE) --no-print-directory MODE=asan tests
	@$(MAKE) --no-print-directory MODE=tsan tests
	@tests/run.sh long

tidy: all ## layers, lengths, format
	@tests/tidy.py $(B)

format: ## reformat the sources
	@clang-format -i $$(git ls-files --cached --others --exclude-standard '*.c' '*.h')

demo: deps ## build, make an ext4 image, mount it, read it, compare, unmount
	@$(MAKE) --no-print-directory all
	@tests/demo.sh $(B)/werunos

bench: deps ## speed, side by side with the kernel and fuse2fs (root; BENCH=options)
	@$(MAKE) --no-print-directory all
	@tests/bench/bench.py $(BENCH) $(B)/werunos
	@tests/bench/btrfs.py $(BENCH) $(B)/werunos
	@tests/bench/write.py $(BENCH) $(B)/werunos
	@tests/bench/combinations.py $(BENCH) $(B)/werunos
	@tests/bench/copies.py $(BENCH) $(B)/werunos
	@tests/bench/fsck.py $(BENCH) $(B)/werunos

# What answers for every checksum of ext4 with the stored one, so that hostile content reaches the parsers.
ANY_SUM := $(foreach s,super group inode extent dir dx xattr mmp fc,-Wl,--wrap=ext4_csum_$(s)) \
	$(foreach s,super_csum tail_good commit_good tag_good,-Wl,--wrap=jbd2_$(s))
$(B)/tests/tools/explore_any_sum: $(B)/tests/tools/explore.o $(B)/tests/fuzz/valid_sums.o $(B)/support.a $(B)/host.a $(B)/kernel.a
	$(call say,LD)
	$(Q)$(CC) $(ALL_LDFLAGS) $(ANY_SUM) -o $@ $^ $(PKG_LD) -lcmocka -lpthread

$(B)/tests/tools/abuse_any_sum: $(B)/tests/tools/abuse.o $(B)/tests/fuzz/valid_sums.o $(B)/support.a $(B)/host.a $(B)/kernel.a
	$(call say,LD)
	$(Q)$(CC) $(ALL_LDFLAGS) $(ANY_SUM) -o $@ $^ $(PKG_LD) -lcmocka -lpthread

# The crash suite, and the one of quotas, with something switched off.
TEETH := $(foreach f,jbd2_forget ext4_orphan_add ext4_blocks_free ext4_quota_apply ext4_quota_hold ext4_quota_reserve,-Wl,--wrap=$(f))
$(B)/tests/tools/quotas_teeth: $(B)/tests/tools/quotas.o $(B)/tests/crash/teeth/teeth.o $(B)/support.a $(B)/host.a $(B)/kernel.a
	$(call say,LD)
	$(Q)$(CC) $(ALL_LDFLAGS) $(TEETH) -o $@ $^ $(PKG_LD) -lpthread

$(B)/tests/crash/crash_teeth: $(patsubst %.c,$(B)/%.o,$(wildcard tests/crash/*.c tests/crash/teeth/*.c)) $(B)/support.a $(B)/host.a $(B)/kernel.a
	$(call say,LD)
	$(Q)$(CC) $(ALL_LDFLAGS) $(TEETH) -o $@ $^ $(PKG_LD) -lpthread

# The kernel directory once more, instrumented; the checksums answer what is stored (tests/fuzz/valid_sums.c).
FUZZ_FLAGS := -std=gnu11 -O1 -g -DWERUNOS_DEBUG -fsanitize=address,undefined -fno-sanitize-recover=undefined \
	-fprofile-instr-generate -fcoverage-mapping
FUZZ_OBJ   := $(KSRC:%.c=build/fuzz/%.o) build/fuzz/tests/support/explore.o
build/fuzz/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)clang $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link $(CPPFLAGS) $(PKG_CF) -MMD -MP -c -o $@ $<
build/fuzz/fuzz_ext4: $(FUZZ_OBJ) build/fuzz/tests/fuzz/fuzz_ext4.o build/fuzz/tests/fuzz/valid_sums.o
	$(call say,CC)
	$(Q)clang $(FUZZ_FLAGS) -fsanitize=fuzzer $(ANY_SUM) -o $@ $^ $(PKG_LD) -lpthread
build/fuzz/fuzz_btrfs: $(FUZZ_OBJ) build/fuzz/tests/fuzz/fuzz_btrfs.o build/fuzz/tests/fuzz/btrfs_sums.o
	$(call say,CC)
	$(Q)clang $(FUZZ_FLAGS) -fsanitize=fuzzer -Wl,--wrap=btrfs_csum -o $@ $^ $(PKG_LD) -lpthread
build/fuzz/fuzz_tar: $(patsubst %.c,build/fuzz/%.o,$(filter kernel/lib/% kernel/vfs/acl.c,$(KSRC)) host/import/item.c host/import/feed_tar.c \
		$(wildcard host/import/tar_*.c) tests/support/tar_make.c tests/fuzz/fuzz_tar.c)
	$(call say,CC)
	$(Q)clang $(FUZZ_FLAGS) -fsanitize=fuzzer -o $@ $^ $(PKG_LD) -lpthread
build/fuzz/images: tests/fuzz/images.sh tests/fuzz/fast_commit.py tests/fuzz/logs.py tests/interop/verity.py
	tests/fuzz/images.sh $@
build/fuzz/images-btrfs: tests/fuzz/images_btrfs.sh
	tests/fuzz/images_btrfs.sh $@

fuzz: deps ## fuzz every parser, T=target for one, TIME=seconds each (600)
	@$(MAKE) --no-print-directory build/fuzz/fuzz_ext4 build/fuzz/fuzz_btrfs build/fuzz/fuzz_tar build/fuzz/images build/fuzz/images-btrfs
	@tests/fuzz/run.sh build/fuzz "$(T)" "$(or $(TIME),600)"

install: all ## install to DESTDIR and PREFIX
	install -Dm755 $(B)/werunos $(DESTDIR)$(PREFIX)/bin/werunos
	install -Dm644 host/api/werunos.h $(DESTDIR)$(PREFIX)/include/werunos.h
	install -Dm644 $(B)/libwerunos.a $(DESTDIR)$(PREFIX)/lib/libwerunos.a
	install -Dm755 $(B)/$(SONAME) $(DESTDIR)$(PREFIX)/lib/$(SONAME)
	ln -sf $(SONAME) $(DESTDIR)$(PREFIX)/lib/libwerunos.so
	mkdir -p $(DESTDIR)$(PREFIX)/lib/pkgconfig
	sed 's|@PREFIX@|$(PREFIX)|; s|@VERSION@|$(VERSION)|; s|@REQUIRES@|$(LPKGS)|' host/api/werunos.pc.in > $(DESTDIR)$(PREFIX)/lib/pkgconfig/werunos.pc
	mkdir -p $(DESTDIR)$(PREFIX)/sbin && ln -sf ../bin/werunos $(DESTDIR)$(PREFIX)/sbin/mount.werunos
	ln -sf ../bin/werunos $(DESTDIR)$(PREFIX)/sbin/fsck.werunos
	for m in $(wildcard host/man/*.8 host/man/*.3 host/man/*.1); do install -Dm644 $$m $(DESTDIR)$(PREFIX)/share/man/man$${m##*.}/$$(basename $$m); done

clean: ## remove build/
	rm -rf build

help: ## this list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

-include $(shell find $(B) -name '*.d' 2>/dev/null)
