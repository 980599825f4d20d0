// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {OfflineFixture} from "./OfflineFixture.sol";
import {IOfflineVault} from "contracts/offline/IOfflineVault.sol";
import {Vm} from "forge-std/Vm.sol";

/// @notice Gas of the steps as whole transactions, so that base cost, calldata and cold storage count. Only `forge test
/// --isolate` measures that: without it, these tests are skipped and leave the snapshot alone (`make gas` writes it).
/// Where the snapshot is compared (`FORGE_SNAPSHOT_CHECK=true`, `make test`) they fail instead of being skipped.
///
/// Steps are measured on a vault that has served others, for owners that hold credit already; `redeem_first` is the first
/// exit of a wallet (of its group of 96), `redeem_next` a later one. What counts is what the sender pays: a coin that is
/// used up gives gas back (EIP-3529).
contract OfflineGasTest is OfflineFixture {
    string private constant FILE = "OfflineVault";
    uint256 private constant TRANSACTION = 21_000;
    uint256 private constant BATCH = 100;

    /// @dev What we promise; the snapshot holds what it is.
    uint256 private constant MOST_REGISTER = 120_000;
    uint256 private constant MOST_REDEEM_FIRST = 75_000;
    uint256 private constant MOST_REDEEM_NEXT = 55_000;
    uint256 private constant MOST_EQUIVOCATION = 100_000;
    uint256 private constant MOST_LOG_NEXT = 75_000;
    uint256 private constant MOST_ENTRY = 1600;

    error NotIsolated(uint256 gas, uint256 leastOfATransaction);

    function setUp() public override {
        super.setUp();
        vault.withdrawCredit(NATIVE, stranger, 0);
        uint256 gas = vm.lastCallGas().gasTotalUsed;
        if (gas >= TRANSACTION) return;
        require(!vm.envOr("FORGE_SNAPSHOT_CHECK", false), NotIsolated(gas, TRANSACTION));
        vm.skip(true, "gas is measured with --isolate: make gas");
    }

    function test_gas_register() external {
        register(addDevice("a further one", false));
        assertLe(_snapshot("register"), MOST_REGISTER, "register");
        register(addDevice("a further one with a log", true));
        assertLe(_snapshot("register_log"), MOST_REGISTER, "register_log");
    }

    function test_gas_deposit() external {
        depositOf(A, AMOUNT);
        depositOf(A, AMOUNT);
        _snapshot("deposit");
        asset = address(token);
        depositOf(A, AMOUNT);
        depositOf(A, AMOUNT);
        _snapshot("deposit_erc20");
    }

    function test_gas_redeem() external {
        _giveCredit(A);
        vault.redeem(exit(begin(depositOf(A, AMOUNT))).path);
        assertLe(_snapshot("redeem_first"), MOST_REDEEM_FIRST, "redeem_first");
        vault.redeem(exit(begin(depositOf(A, AMOUNT))).path);
        assertLe(_snapshot("redeem_next"), MOST_REDEEM_NEXT, "redeem_next");
    }

    /// The target of 14,000 is missed: the floor is 12,900 before a line of Solidity runs (calldata 3,400, P-256 7,000, SHA-256
    /// 170, the wallet's slot 2,100, its class 100); reading the hop, its hashes and the checks are the rest.
    ///
    /// One more payment before the exit: a wallet that has not been on the path yet, all of the coin (so that the coin is used
    /// up in both).
    function test_gas_hops() external {
        _giveCredit(A);
        _giveCredit(B);
        vault.redeem(exit(begin(depositOf(A, AMOUNT))).path);
        vault.redeem(exit(begin(depositOf(B, AMOUNT))).path);
        vault.redeem(exit(begin(depositOf(A, AMOUNT))).path);
        uint256 none = _paid();
        Trip memory t = begin(depositOf(C, AMOUNT));
        t = pay(pay(pay(pay(t, D, AMOUNT), E, AMOUNT), A, AMOUNT), B, AMOUNT);
        vault.redeem(exit(t).path);
        uint256 hop = (_paid() - none) / 4;
        vm.snapshotValue(FILE, "redeem_per_hop", hop);
        // A part from the coin's upper end, and one from its middle, which leaves a part above it.
        Coin memory coin = depositOf(C, AMOUNT);
        Trip memory one = pay(begin(coin), A, AMOUNT / 4);
        vault.redeem(exit(one).path);
        _snapshot("redeem_depth_2_upper_end");
        coin = depositOf(C, AMOUNT);
        Trip memory lower = pay(change(begin(coin), D, AMOUNT / 4), A, AMOUNT / 4);
        vault.redeem(exit(lower).path);
        _snapshot("redeem_depth_3_from_the_middle");
    }

    function test_gas_batch() external {
        _giveCredit(A);
        vault.redeem(exit(begin(depositOf(A, AMOUNT))).path);
        IOfflineVault.Path[] memory one = new IOfflineVault.Path[](1);
        IOfflineVault.Path[] memory all = new IOfflineVault.Path[](BATCH);
        one[0] = exit(begin(depositOf(A, AMOUNT))).path;
        for (uint256 i; i < BATCH; ++i) {
            all[i] = exit(begin(depositOf(A, AMOUNT))).path;
        }
        vault.redeemBatch(one);
        uint256 single = _paid();
        vault.redeemBatch(all);
        // The target of 16,000 is missed: each is a coin of its own, whose slot is 5,000 (of which up to a fifth of the
        // whole comes back), P-256 7,200, calldata 3,800, the event 2,500.
        vm.snapshotValue(FILE, "redeem_batch_100_per_path", (_paid() - single) / (BATCH - 1));
    }

    /// A merchant's: 15 payments out of one coin, each by the change of the one before. What they share is proven once.
    function test_gas_batchOfOneCoin() external {
        _giveCredit(B);
        vault.redeem(exit(begin(depositOf(B, AMOUNT))).path);
        IOfflineVault.Path[] memory one = new IOfflineVault.Path[](1);
        one[0] = exit(pay(begin(depositOf(A, AMOUNT)), B, 1 gwei)).path;
        IOfflineVault.Path[] memory all = new IOfflineVault.Path[](15);
        Trip memory t = begin(depositOf(A, AMOUNT));
        for (uint256 i; i < 15; ++i) {
            Trip memory side;
            (side, t) = bothParts(t, B, 1 gwei);
            all[i] = exit(side).path;
        }
        vault.redeemBatch(one);
        uint256 single = _paid();
        vault.redeemBatch(all);
        vm.snapshotValue(FILE, "redeem_batch_15_payments_of_one_coin_per_path", (_paid() - single) / 14);
    }

    function test_gas_equivocation() external {
        Coin memory coin = depositOf(A, AMOUNT);
        Device memory image = imageOf(A);
        IOfflineVault.Transfer memory one = pay(begin(coin), B, AMOUNT).last;
        restore(A, image);
        IOfflineVault.Transfer memory other = pay(begin(coin), C, AMOUNT).last;
        equivocate(A, one, other);
        assertLe(_snapshot("prove_equivocation"), MOST_EQUIVOCATION, "prove_equivocation");
    }

    function test_gas_log() external {
        _giveCredit(T);
        vault.redeem(exit(begin(depositOf(T, AMOUNT))).path);
        settleLog(T);
        _elsewhere(T, 3);
        vault.redeem(exit(begin(depositOf(T, AMOUNT))).path);
        uint256 four = _paid();
        assertLe(_snapshot("redeem_log_next"), MOST_LOG_NEXT, "redeem_log_next");
        settleLog(T);
        _elsewhere(T, 19);
        vault.redeem(exit(begin(depositOf(T, AMOUNT))).path);
        uint256 entry = (_paid() - four) / 16;
        vm.snapshotValue(FILE, "log_per_entry", entry);
        assertLe(entry, MOST_ENTRY, "log_per_entry");
    }

    /// The target of 26,000 is missed: the floor is 26,400 (a new slot 22,100, calldata 1,024, two SHA-256 370 and 512 of the
    /// event that rebuilds the log; the transaction's own 21,000, its certificate and the heads are 2,400 more for each of
    /// 20). A further entry costs 24,300.
    function test_gas_settleLog() external {
        _elsewhere(T, 1);
        settleLog(T);
        _elsewhere(T, 20);
        IOfflineVault.Stretch memory all = stretchOf(T, devices[T].base, devices[T].entries);
        vault.settleLog(devices[T].key, all);
        uint256 entry = _paid() / 20;
        vm.snapshotValue(FILE, "settle_log_20_per_entry", entry);
    }

    // ── helpers ──

    /// @dev What the last transaction cost its sender.
    function _paid() private view returns (uint256) {
        Vm.Gas memory gas = vm.lastCallGas();
        uint256 back = uint256(uint64(gas.gasRefunded));
        uint256 most = gas.gasTotalUsed / 5;
        return gas.gasTotalUsed - (back < most ? back : most);
    }

    function _snapshot(string memory name) private returns (uint256 gas) {
        gas = _paid();
        vm.snapshotValue(FILE, name, gas);
    }

    /// @dev Payments that have nothing to do with what is measured.
    function _elsewhere(uint256 w, uint256 count) private {
        for (uint256 i; i < count; ++i) {
            Trip memory t = begin(depositOf(w, AMOUNT));
            pay(t, A, AMOUNT);
        }
    }

    /// @dev Leaves an owner with credit, and the exits of its wallet as they were.
    function _giveCredit(uint256 w) private {
        uint256 friend = addDevice(string.concat("friend of ", devices[w].name), false);
        devices[friend].owner = devices[w].owner;
        register(friend);
        vault.redeem(exit(begin(depositOf(friend, AMOUNT))).path);
    }
}
