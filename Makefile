# The commands of the README. `make check` is what CI runs.
CARGO ?= cargo

.PHONY: check lint test host-tools

check: host-tools lint test

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --locked -- -D warnings

test:
	$(CARGO) test --locked

# What the host tests boot a throw-away Debian with. Without root they are ignored, and say so.
host-tools:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! { command -v mmdebstrap && command -v systemd-nspawn; } >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
			mmdebstrap systemd-container debian-archive-keyring iproute2 util-linux >/dev/null; \
	fi
