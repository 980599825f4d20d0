# Every target is thin: what it runs can be typed by hand. `make setup` stands before all of them.
.PHONY: setup demo test test-rust test-contracts test-tools test-js lint lint-rust lint-contracts bench gas coverage deep fuzz prove slither deny
MAKEFLAGS += --no-print-directory
export FORGE := script/forge
# Gas is measured in whole transactions (`--isolate`); the other tests run without, which is faster.
GAS := --match-path 'tests/contracts/*/gas.t.sol'
NOT_GAS := --no-match-path 'tests/contracts/*/gas.t.sol'

setup: ; @script/setup

demo: setup ## Sell a file piece by piece on a local chain. ARGS="--payments 100 --json"
	@cargo build --release --package micropay-cli
	@target/release/micropay demo $(ARGS)

test: test-contracts test-rust test-js ## Everything that must pass
test-contracts: setup
	$(FORGE) test $(NOT_GAS)
	FORGE_SNAPSHOT_CHECK=true $(FORGE) test --isolate $(GAS)
test-rust: setup test-tools
	cargo test --workspace
test-tools: ; @script/test-tools
test-js: setup
	cargo test --workspace --no-run --quiet
	MICROPAY_BIN="$${CARGO_TARGET_DIR:-$$PWD/target}/debug/micropay" script/test-js

lint: lint-contracts lint-rust ## Format, warnings, house rules, documentation
lint-contracts: setup
	$(FORGE) fmt --check
	FOUNDRY_PROFILE=lint $(FORGE) build --force contracts
	FOUNDRY_PROFILE=lint $(FORGE) lint contracts
lint-rust: setup
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" cargo doc --workspace --no-deps --quiet
	cargo xtask tidy
	script/deny --if-installed

bench: setup ## Time of each step beside the paper's, target/bench/report.json
	cargo bench --package micropay-bench

gas: setup ## Measure gas and write tests/contracts/snapshots
	$(FORGE) test --isolate $(GAS)

coverage: setup ; script/coverage ## Lines and branches of contracts/
deep: setup ## The same tests, for hours rather than minutes
	FOUNDRY_PROFILE=deep $(FORGE) test $(NOT_GAS)
	PROPTEST_CASES=20000 cargo test --workspace --release
fuzz: ; script/fuzz ## libFuzzer on every decoder, a minute each
prove: setup ; script/prove ## Symbolic proofs of the channel's money
slither: setup ; script/slither ## Static analysis of contracts/
deny: ; script/deny ## Licences, duplicates, sources and known advisories of the crates
