# The commands of the README. `make check` is what CI runs.
CARGO ?= cargo
# For pipefail: a failing test must not end as a successful count.
SHELL := bash
.SHELLFLAGS := -o pipefail -c

.PHONY: check lint lint-aarch64 test test-aarch64 bench try host-tools nix-tools aarch64-tools build install generated

# Where `make install` puts things; DESTDIR goes before it, for packages.
PREFIX ?= /usr/local
DESTDIR ?=
# systemd looks for units in /usr/lib and /usr/local/lib, and nowhere else below a prefix.
UNITDIR ?= $(PREFIX)/lib/systemd/system
BINARY ?= target/release/nkudo

# The other architecture. A crate has C in it, so it wants a C compiler.
AARCH64 := aarch64-unknown-linux-gnu
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER ?= aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER ?= qemu-aarch64 -L /usr/aarch64-linux-gnu

check: host-tools nix-tools aarch64-tools lint lint-aarch64 test

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --locked -- -D warnings

lint-aarch64:
	@if [ -d "$$(rustc --print sysroot)/lib/rustlib/$(AARCH64)" ] && command -v $(CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER) >/dev/null; then \
		echo "$(CARGO) clippy --all-targets --locked --target $(AARCH64) -- -D warnings"; \
		$(CARGO) clippy --all-targets --locked --target $(AARCH64) -- -D warnings; \
	else \
		echo "lint-aarch64 is ignored: it needs gcc-aarch64-linux-gnu, and rustup's target $(AARCH64)"; \
	fi

# All tiers, whichever fail; then how many there were of each.
test:
	@mkdir -p target
	@PATH="$$PATH:$${CARGO_HOME:-$$HOME/.cargo}/bin" $(CARGO) test --locked --no-fail-fast 2>&1 | tee target/test.log; \
		ended=$$?; awk -f tests/counts.awk target/test.log; exit $$ended

# The tests that start no program, in QEMU's user emulation: it runs nothing that they would start. QEMU 7.2
# knows no openat2(2), so the one of trusted paths fails with it.
test-aarch64: aarch64-tools
	@command -v qemu-aarch64 >/dev/null || { echo "there is no qemu-aarch64: install qemu-user" >&2; exit 1; }
	$(CARGO) test --locked --no-fail-fast --target $(AARCH64) --lib --test diagnostics --test golden --test plan --test shape

# What the release build needs, on one core; then what a switch needs with a thousand VMs on a throw-away host.
# Fails where a limit is not kept.
bench: host-tools
	@$(CARGO) bench --locked --bench '*'
	@$(CARGO) test --release -q --locked --test host -- --bench

# The example on a throw-away host, with a shell on it where there is a terminal.
try: host-tools
	@$(CARGO) test --locked --test host --no-run
	@tests/fetch-vmm target/vmm; PATH="$$PATH:$(CURDIR)/target/vmm" $(CARGO) test -q --locked --test host -- --try

# What the host tests boot a throw-away Debian with. Without root they are ignored, and say so.
host-tools:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! { command -v mmdebstrap && command -v systemd-nspawn && command -v mcopy; } >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
			mmdebstrap systemd-container debian-archive-keyring iproute2 util-linux mtools >/dev/null; \
	fi

# What the files of Nix's are parsed and linted with; where it cannot be had, the tests that want it are
# ignored, and say so. Without optimisation the linters are built in half a minute.
nix-tools:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! command -v nix-instantiate >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
			nix-bin >/dev/null || true; \
	fi
	@for linter in deadnix@1.3.1 nixpkgs-fmt@1.3.0; do \
		PATH="$$PATH:$${CARGO_HOME:-$$HOME/.cargo}/bin" command -v "$${linter%@*}" >/dev/null || \
			$(CARGO) install -q --locked --debug "$$linter" || true; \
	done

# Where they cannot be had, the lint for aarch64 is ignored, and says so.
aarch64-tools:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! command -v aarch64-linux-gnu-gcc >/dev/null; then \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
			gcc-aarch64-linux-gnu libc6-dev-arm64-cross >/dev/null; } || true; \
	fi
	@if command -v rustup >/dev/null && [ ! -d "$$(rustc --print sysroot)/lib/rustlib/$(AARCH64)" ]; then \
		timeout 120 rustup -q target add $(AARCH64) || true; \
	fi

build:
	$(CARGO) build --release --locked

# As root, after `make build`. Never a nkudo-vm@.service: it would take the name of every VM's unit.
install:
	@[ -x "$(BINARY)" ] || { echo "there is no $(BINARY): run \`make build\` first" >&2; exit 1; }
	install -D -m 755 $(BINARY) $(DESTDIR)$(PREFIX)/bin/nkudo
	install -d $(DESTDIR)$(UNITDIR)
	for unit in units/*; do \
		sed 's|=nkudo |=$(PREFIX)/bin/nkudo |' $$unit >$(DESTDIR)$(UNITDIR)/$${unit##*/} && \
		chmod 644 $(DESTDIR)$(UNITDIR)/$${unit##*/} || exit 1; \
	done
	install -d $(DESTDIR)$(PREFIX)/share/man/man5 $(DESTDIR)$(PREFIX)/share/man/man8
	install -m 644 man/*.5 $(DESTDIR)$(PREFIX)/share/man/man5
	install -m 644 man/*.8 $(DESTDIR)$(PREFIX)/share/man/man8
	install -D -m 644 completions/nkudo.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/nkudo
	install -D -m 644 completions/_nkudo $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_nkudo
	install -D -m 644 completions/nkudo.fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/nkudo.fish
	install -D -m 644 docs/nkudo.schema.json $(DESTDIR)$(PREFIX)/share/nkudo/nkudo.schema.json
	@# Help and messages name them. Packages may be built without.
	for page in README.md docs/*.md docs/*.json examples/*.toml; do \
		[ ! -e $$page ] || install -D -m 644 $$page $(DESTDIR)$(PREFIX)/share/doc/nkudo/$$page || exit 1; \
	done

# What is made of the command line and of src/config/shape: docs/nkudo-toml.md, the schema, man/, completions/.
generated:
	NKUDO_BLESS=1 $(CARGO) test -q --locked --test shape --test manual fresh
