// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

// Rule E2, rows N-1 and M1-11. Of every ECDSA signature (r, s) anyone can make a second one, (r, n − s). Where the coin hashes
// signature bytes (section 2.4) that is a second draw: 1 − (127/128)² = 1.556 % instead of 0.781 %. Where the nullifier is the
// signature it is a second payment. Our draw holds no signature byte, the nullifier is the nonce, and the second form is
// refused outright, as is every other encoding.

import {AttackFixture} from "./AttackFixture.sol";
import {PaperEscrow, PaperRule} from "./PaperRule.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";

contract MalleabilityTest is AttackFixture {
    uint256 private constant TICKETS = 2048;

    function test_malleated_signature_rejected() external {
        _paperHasTwoDraws();

        openDefault(NATIVE);
        ITicketEscrow.Winner memory good = winner(1);
        ITicketEscrow.Signature memory s = good.signature;
        uint8 flipped = s.v == 27 ? 28 : 27;
        bytes32 high = bytes32(ORDER - uint256(s.s));
        // Valid to the precompile, and yet refused.
        assertEq(ecrecover(escrows.ticketDigest(ticket(escrow, merchant, r1, 1, true)), flipped, s.r, high), escrow);
        _refused(good, ITicketEscrow.Signature(s.r, high, flipped));
        // v as 0 or 1, v with the chain id, zero r, zero s, s beyond the order.
        _refused(good, ITicketEscrow.Signature(s.r, s.s, s.v - 27));
        _refused(good, ITicketEscrow.Signature(s.r, s.s, s.v + 8));
        _refused(good, ITicketEscrow.Signature(0, s.s, s.v));
        _refused(good, ITicketEscrow.Signature(s.r, 0, s.v));
        _refused(good, ITicketEscrow.Signature(s.r, bytes32(type(uint256).max), s.v));

        // In a batch it is skipped, and its good twin paid once.
        ITicketEscrow.Winner[] memory list = new ITicketEscrow.Winner[](3);
        list[0] = ITicketEscrow.Winner(
            good.r2, good.winThreshold, good.expiry, good.nonce, ITicketEscrow.Signature(s.r, high, flipped)
        );
        list[1] = good;
        list[2] = list[0];
        ITicketEscrow.Group[] memory groups = new ITicketEscrow.Group[](1);
        groups[0] = group(escrow, r1, list);
        vm.prank(merchant);
        escrows.claimBatch(merchant, groups);
        assertEq(creditOf(merchant), PRIZE);
        assertEq(escrows.escrowOf(escrow).balance, BALANCE - PRIZE);
    }

    /// @dev The merchant draws both forms of each of 2,048 signatures; the bare escrow takes either.
    function _paperHasTwoDraws() private {
        uint256 one;
        uint256 either;
        for (uint256 i; i < TICKETS; ++i) {
            (uint8 v, bytes32 r, bytes32 s) = vm.sign(escrowKey, keccak256(abi.encode("ticket", i)));
            bool low = PaperRule.signatureWins(r1, r, s, v);
            if (low) ++one;
            if (low || PaperRule.signatureWins(r1, r, bytes32(ORDER - uint256(s)), v == 27 ? 28 : 27)) ++either;
        }
        assertRate(one, TICKETS, 128, "one form");
        // 255/16384 = 1.556 %: 31.9 expected of 2,048, σ = 5.6.
        assertApproxEqAbs(either, 32, 22);
        assertGt(either, one);

        PaperEscrow paper = paperEscrow(1);
        Witness memory w = witness(paper, sybil);
        w.s = bytes32(ORDER - uint256(w.s));
        w.v = w.v == 27 ? 28 : 27;
        assertTrue(paper.isWitness(w.r1, w.r2, w.payee, w.v, w.r, w.s), "two encodings of one witness");
    }

    function _refused(ITicketEscrow.Winner memory w, ITicketEscrow.Signature memory bad) private {
        ITicketEscrow.Winner memory spoiled = ITicketEscrow.Winner(w.r2, w.winThreshold, w.expiry, w.nonce, bad);
        vm.prank(merchant);
        vm.expectRevert(abi.encodeWithSelector(ITicketEscrow.TicketNotSigned.selector, 0, uint256(uint160(escrow))));
        escrows.claim(merchant, escrow, r1, spoiled);
    }
}
