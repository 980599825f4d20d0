// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {TicketFixture} from "./TicketFixture.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";

/// @notice Gas of the steps as whole transactions: run with `forge test --isolate`, so that base cost, calldata and cold
/// storage count. The snapshot is compared in CI (`FORGE_SNAPSHOT_CHECK=true`).
contract TicketGasTest is TicketFixture {
    string private constant FILE = "TicketEscrow";
    uint64 private constant BATCH = 32;

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
        vm.snapshotGasLastCall(FILE, string.concat("open", suffix));

        ITicketEscrow.Winner memory one = winner(1);
        vm.prank(merchant);
        escrows.claim(merchant, escrow, r1, one);
        vm.snapshotGasLastCall(FILE, string.concat("claim_first", suffix));

        one = winner(2);
        vm.prank(merchant);
        escrows.claim(merchant, escrow, r1, one);
        vm.snapshotGasLastCall(FILE, string.concat("claim_next", suffix));

        _measureBatch(suffix);
        _measureEscrows(asset, suffix);

        vm.prank(merchant);
        escrows.withdrawCredit(asset, merchant, 2 * PRIZE);
        vm.snapshotGasLastCall(FILE, string.concat("withdraw_credit", suffix));
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
        vm.snapshotValue(FILE, string.concat("claim_batch_32_per_ticket", suffix), (batch - single) / (BATCH - 1));
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
        vm.snapshotValue(
            FILE, string.concat("claim_32_escrows_per_ticket", suffix), uint256(vm.lastCallGas().gasTotalUsed) / BATCH
        );
    }
}
