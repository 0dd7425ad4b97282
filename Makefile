# The commands of the README. `make check` is what CI runs.
CARGO ?= cargo
# For pipefail: a failing test must not end as a successful count.
SHELL := bash
.SHELLFLAGS := -o pipefail -c

.PHONY: check lint test try host-tools nix-tools

check: host-tools nix-tools lint test

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --locked -- -D warnings

# All tiers, whichever fail; then how many there were of each.
test:
	@mkdir -p target
	@PATH="$$PATH:$${CARGO_HOME:-$$HOME/.cargo}/bin" $(CARGO) test --locked --no-fail-fast 2>&1 | tee target/test.log; \
		ended=$$?; awk -f tests/counts.awk target/test.log; exit $$ended

# The example on a throw-away host, with a shell on it where there is a terminal.
try: host-tools
	@$(CARGO) test --locked --test host --no-run
	@tests/fetch-vmm target/vmm; PATH="$$PATH:$(CURDIR)/target/vmm" $(CARGO) test -q --locked --test host -- --try

# What the host tests boot a throw-away Debian with. Without root they are ignored, and say so.
host-tools:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! { command -v mmdebstrap && command -v systemd-nspawn; } >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
			mmdebstrap systemd-container debian-archive-keyring iproute2 util-linux >/dev/null; \
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
