// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

// Row M1-11 and rule E6. The paper's escrow is spent by its first witness, so it needs no nullifier. A multi-prize escrow does,
// and a rising nonce is the cheap one; but its order can be abused: a payer that has seen r1 and could claim for the
// merchant would pay one prize for the highest winner and so void all below it. Only the recipient, or an operator that it
// approved, may claim.

import {AttackFixture} from "./AttackFixture.sol";
import {IOperators} from "contracts/shared/IOperators.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";

contract LastNonceTest is AttackFixture {
    function test_attack_payer_pushes_last_nonce() external {
        openDefault(NATIVE);
        ITicketEscrow.Winner[] memory list = winners(1, 3);
        ITicketEscrow.Group[] memory groups = new ITicketEscrow.Group[](1);

        // What a claim by anyone would allow, shown by a merchant careless enough to approve its payer.
        uint256 state = vm.snapshotState();
        vm.prank(merchant);
        escrows.setOperator(payer, true);
        vm.prank(payer);
        escrows.claim(merchant, escrow, r1, list[2]);
        for (uint64 i; i < 2; ++i) {
            vm.prank(merchant);
            vm.expectRevert(abi.encodeWithSelector(ITicketEscrow.NonceNotAboveLast.selector, i + 1, 3));
            escrows.claim(merchant, escrow, r1, list[i]);
        }
        assertEq(creditOf(merchant), PRIZE, "one prize for three winners");
        assertTrue(vm.revertToState(state));

        // Ours: neither the payer, nor a stranger, nor the escrow key, nor a former operator.
        vm.startPrank(merchant);
        escrows.setOperator(stranger, true);
        escrows.setOperator(stranger, false);
        vm.stopPrank();
        address[4] memory others = [payer, stranger, escrow, address(escrows)];
        groups[0] = group(escrow, r1, list);
        for (uint256 i; i < others.length; ++i) {
            bytes memory refusal = abi.encodeWithSelector(IOperators.NotOperator.selector, others[i], merchant);
            vm.prank(others[i]);
            vm.expectRevert(refusal);
            escrows.claim(merchant, escrow, r1, list[2]);
            vm.prank(others[i]);
            vm.expectRevert(refusal);
            escrows.claimBatch(merchant, groups);
        }
        // Nor does a claim of one's own move the merchant's nonce.
        claimAs(sybil, sybilR1, 1000);
        assertEq(escrows.pairOf(escrow, merchant).lastNonce, 0);

        vm.prank(merchant);
        escrows.claimBatch(merchant, groups);
        assertEq(creditOf(merchant), 3 * PRIZE);
        assertEq(creditOf(payer) + creditOf(stranger), 0);
        assertEq(escrows.escrowOf(escrow).balance, BALANCE - 4 * PRIZE);
    }
}
