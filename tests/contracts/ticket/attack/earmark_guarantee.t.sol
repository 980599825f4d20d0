// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

// Row M1-1, P1'. Even with penalties, a payer that does not mind losing them can leave winners unpaid. The earmark is the
// one guarantee without an "unless": as long as its own wins are within it, a merchant is paid, whatever the payer does to
// the rest of the escrow: drain it by itself, let it burn, or ask for it back.

import {AttackFixture} from "./AttackFixture.sol";
import {PaperEscrow} from "./PaperRule.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";

contract EarmarkGuaranteeTest is AttackFixture {
    function test_earmark_guarantee() external {
        // The paper has nothing of the kind: the payer empties the escrow first.
        PaperEscrow paper = paperEscrow(1 ether);
        release(paper, witness(paper, sybil));
        assertEq(address(paper).balance, 0);

        openWith(4);
        uint64 until = uint64(vm.getBlockTimestamp() + 30 days);
        vm.prank(payer);
        escrows.earmark(escrow, merchant, 2, until);

        // Drained and burned, by the payer's own winners.
        for (uint64 i = 1; i <= 3; ++i) {
            claimAs(sybil, sybilR1, i);
        }
        assertEq(creditOf(sybil), 2 * PRIZE, "the earmark is out of the sybil's reach");
        claimAs(merchant, r1, 1);
        assertEq(creditOf(merchant), PRIZE, "paid while insolvent");
        vm.warp(vm.getBlockTimestamp() + 3 days + 1);
        escrows.burn(escrow);
        assertEq(creditOf(BURN), PENALTY);

        // The payer cannot have it back, burn it early, nor let another take it.
        vm.prank(payer);
        vm.expectRevert(
            abi.encodeWithSelector(ITicketEscrow.EarmarkLive.selector, vm.getBlockTimestamp(), until + 6 hours)
        );
        escrows.releaseEarmark(escrow, merchant);
        ITicketEscrow.Winner memory w = winnerFor(sybil, sybilR1, 4);
        vm.prank(sybil);
        vm.expectRevert(
            abi.encodeWithSelector(
                ITicketEscrow.EscrowNotPaying.selector, ITicketEscrow.Status.CLOSED, ITicketEscrow.Status.OPEN
            )
        );
        escrows.claim(sybil, escrow, sybilR1, w);

        // At the very end of the promise, after everything else is gone.
        vm.warp(until + 6 hours);
        claimAs(merchant, r1, 2);
        assertEq(creditOf(merchant), 2 * PRIZE);
        assertEq(address(escrows).balance, 2 * PRIZE + 2 * PRIZE + PENALTY);
        assertEq(escrows.escrowOf(escrow).earmarked, 0);
    }

    /// @dev A withdrawal waits for the last earmark's end and margin, not for its own delay alone.
    function test_earmark_guarantee_outlives_withdrawal() external {
        uint256 start = payer.balance;
        openWith(4);
        uint64 until = uint64(vm.getBlockTimestamp() + 30 days);
        vm.startPrank(payer);
        escrows.earmark(escrow, merchant, 2, until);
        escrows.earmark(escrow, merchant2, 1, uint64(vm.getBlockTimestamp()));
        escrows.requestWithdraw(escrow);
        vm.warp(until + 6 hours);
        vm.expectRevert(
            abi.encodeWithSelector(ITicketEscrow.EarmarkLive.selector, vm.getBlockTimestamp(), until + 6 hours)
        );
        escrows.withdraw(escrow);
        vm.stopPrank();
        claimAs(merchant, r1, 1);
        vm.warp(until + 6 hours + 1);
        vm.prank(payer);
        escrows.withdraw(escrow);
        assertEq(wealth(payer), start - PRIZE);
        assertEq(creditOf(merchant), PRIZE);
        // What the pairs still name is gone: neither claimed nor released a second time.
        vm.prank(payer);
        vm.expectRevert(abi.encodeWithSelector(ITicketEscrow.NothingEarmarked.selector, escrow, merchant2));
        escrows.releaseEarmark(escrow, merchant2);
        assertEq(address(escrows).balance, creditOf(payer) + creditOf(merchant));
    }
}
