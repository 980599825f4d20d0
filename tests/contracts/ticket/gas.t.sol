// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {TicketFixture} from "./TicketFixture.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";

/// @notice Gas of the steps as whole transactions, so that base cost, calldata and cold storage count. Only `forge test
/// --isolate` measures that: without it, these tests are skipped and leave the snapshot alone (`make gas` writes it).
/// Where the snapshot is compared (`FORGE_SNAPSHOT_CHECK=true`, `make test`) they fail instead of being skipped.
contract TicketGasTest is TicketFixture {
    string private constant FILE = "TicketEscrow";
    uint64 private constant BATCH = 32;
    uint256 private constant TRANSACTION = 21_000;

    /// @dev What we promise; the snapshot holds what it is.
    uint256 private constant MOST_OPEN = 130_000;
    uint256 private constant MOST_CLAIM_FIRST = 90_000;
    uint256 private constant MOST_CLAIM_NEXT = 54_000;
    uint256 private constant MOST_MARGINAL = 10_000;
    uint256 private constant MOST_OF_32_ESCROWS = 32_000;

    error NotIsolated(uint256 gas, uint256 leastOfATransaction);

    function setUp() public override {
        super.setUp();
        vm.prank(merchant);
        escrows.setOperator(stranger, false);
        uint256 gas = vm.lastCallGas().gasTotalUsed;
        if (gas >= TRANSACTION) return;
        require(!vm.envOr("FORGE_SNAPSHOT_CHECK", false), NotIsolated(gas, TRANSACTION));
        vm.skip(true, "gas is measured with --isolate: make gas");
    }

    function test_gas_native() external {
        _measure(NATIVE, "");
    }

    function test_gas_erc20() external {
        _measure(address(token), "_erc20");
    }

    function _measure(address asset, string memory suffix) private {
        // The contract has served others before: slots of its own balance are in use.
        (, uint256 otherKey) = makeAddrAndKey("other escrow");
        open(otherKey, payer, terms(asset), BALANCE + PENALTY);

        ITicketEscrow.Terms memory t = terms(asset);
        t.ticketCap = 10_000;
        ITicketEscrow.Signature memory proof = possession(escrowKey, payer, t);
        vm.prank(payer);
        escrows.open{value: asset == NATIVE ? BALANCE + PENALTY : 0}(escrow, t, BALANCE + PENALTY, proof);
        _note("open", suffix, MOST_OPEN);

        ITicketEscrow.Winner memory one = winner(1);
        vm.prank(merchant);
        escrows.claim(merchant, escrow, r1, one);
        _note("claim_first", suffix, MOST_CLAIM_FIRST);

        one = winner(2);
        vm.prank(merchant);
        escrows.claim(merchant, escrow, r1, one);
        _note("claim_next", suffix, MOST_CLAIM_NEXT);

        _measureBatch(suffix);
        _measureEscrows(asset, suffix);

        vm.prank(merchant);
        escrows.withdrawCredit(asset, merchant, 2 * PRIZE);
        vm.snapshotGasLastCall(FILE, string.concat("withdraw_credit", suffix));
    }

    function _note(string memory step, string memory suffix, uint256 most) private {
        assertLe(vm.snapshotGasLastCall(FILE, string.concat(step, suffix)), most, step);
    }

    /// @dev Marginal ticket: a batch of 32 against a batch of one, divided by the 31 between them.
    function _measureBatch(string memory suffix) private {
        ITicketEscrow.Group[] memory groups = new ITicketEscrow.Group[](1);
        groups[0] = group(escrow, r1, winners(10, 1));
        vm.prank(merchant);
        escrows.claimBatch(merchant, groups);
        uint256 single = vm.lastCallGas().gasTotalUsed;

        groups[0] = group(escrow, r1, winners(100, BATCH));
        vm.prank(merchant);
        escrows.claimBatch(merchant, groups);
        uint256 batch = vm.lastCallGas().gasTotalUsed;
        uint256 marginal = (batch - single) / (BATCH - 1);
        assertLe(marginal, MOST_MARGINAL, "claim_batch_32_per_ticket");
        vm.snapshotValue(FILE, string.concat("claim_batch_32_per_ticket", suffix), marginal);
    }

    /// @dev 32 payers, one ticket each, one transaction; the pairs are in use.
    function _measureEscrows(address asset, string memory suffix) private {
        ITicketEscrow.Group[] memory first = new ITicketEscrow.Group[](BATCH);
        ITicketEscrow.Group[] memory next = new ITicketEscrow.Group[](BATCH);
        for (uint256 i; i < BATCH; ++i) {
            (address other, uint256 key) = makeAddrAndKey(string.concat("payer", vm.toString(i)));
            open(key, payer, terms(asset), BALANCE + PENALTY);
            bytes32 secret = keccak256(abi.encode("r1", i));
            ITicketEscrow.Winner[] memory list = new ITicketEscrow.Winner[](1);
            list[0] = signed(key, ticket(other, merchant, secret, 1, true));
            first[i] = group(other, secret, list);
            list = new ITicketEscrow.Winner[](1);
            list[0] = signed(key, ticket(other, merchant, secret, 2, true));
            next[i] = group(other, secret, list);
        }
        vm.prank(merchant);
        escrows.claimBatch(merchant, first);
        vm.prank(merchant);
        escrows.claimBatch(merchant, next);
        uint256 each = uint256(vm.lastCallGas().gasTotalUsed) / BATCH;
        assertLe(each, MOST_OF_32_ESCROWS, "claim_32_escrows_per_ticket");
        vm.snapshotValue(FILE, string.concat("claim_32_escrows_per_ticket", suffix), each);
    }
}
