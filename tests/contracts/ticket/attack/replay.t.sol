// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

// Rows M1-5 and M1-11. The paper signs (c, r2, a2) and nothing else: no chain, no contract, no escrow, no number. One
// winning ticket is paid wherever its key holds money, and again whenever it holds money anew. Ours signs all of these
// (EIP-712 domain, escrow, recipient, nonce), and a nonce is paid once.

import {AttackFixture} from "./AttackFixture.sol";
import {PaperEscrow} from "./PaperRule.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";
import {TicketEscrow} from "contracts/ticket/TicketEscrow.sol";

contract ReplayTest is AttackFixture {
    /// @dev Half of all tickets win here, so that a replayed ticket is stopped by its signature, not by its draw.
    uint256 private constant HALF = 1 << 255;
    ITicketEscrow.Ticket private t;

    function test_attack_replay_other_chain_contract_escrow_recipient() external {
        // The paper: one ticket, three payments.
        PaperEscrow one = paperEscrow(1 ether);
        PaperEscrow other = paperEscrow(1 ether);
        Witness memory w = witness(one, merchant);
        release(one, w);
        release(other, w);
        vm.deal(address(one), 1 ether);
        release(one, w);
        assertEq(merchant.balance, 3 ether);

        // Ours: paid once.
        ITicketEscrow.Terms memory wide = terms(NATIVE);
        wide.maxThreshold = HALF;
        open(escrowKey, payer, wide, BALANCE + PENALTY);
        t = ticket(escrow, merchant, r1, 1, true);
        t.winThreshold = HALF;
        t = grind(t, r1, true);
        ITicketEscrow.Winner memory mine = signed(escrowKey, t);
        vm.prank(merchant);
        escrows.claim(merchant, escrow, r1, mine);
        _notAgain(mine);
        _notOnOtherChain(mine);
        _notInOtherContract(mine);
        _notFromOtherEscrow(mine);
        _notToOtherRecipient(mine);
        assertEq(creditOf(merchant), PRIZE);
        assertEq(escrows.escrowOf(escrow).balance, BALANCE - PRIZE);
    }

    function _notAgain(ITicketEscrow.Winner memory w) private {
        vm.prank(merchant);
        vm.expectRevert(abi.encodeWithSelector(ITicketEscrow.NonceNotAboveLast.selector, 1, 1));
        escrows.claim(merchant, escrow, r1, w);
    }

    /// @dev A fork of the chain has the same contract, escrow and nonces; only the id differs, and it is recomputed.
    function _notOnOtherChain(ITicketEscrow.Winner memory w) private {
        uint256 state = vm.snapshotState();
        _unpay();
        vm.chainId(block.chainid + 1);
        _stopped(escrows, escrow, merchant, w);
        assertTrue(vm.revertToState(state));
    }

    function _notInOtherContract(ITicketEscrow.Winner memory w) private {
        uint256 state = vm.snapshotState();
        TicketEscrow first = escrows;
        escrows = new TicketEscrow();
        assertNotEq(escrows.domainSeparator(), first.domainSeparator());
        ITicketEscrow.Terms memory wide = terms(NATIVE);
        wide.maxThreshold = HALF;
        open(escrowKey, payer, wide, BALANCE + PENALTY);
        _stopped(escrows, escrow, merchant, w);
        escrows = first;
        assertTrue(vm.revertToState(state));
    }

    function _notFromOtherEscrow(ITicketEscrow.Winner memory w) private {
        (address other, uint256 otherKey) = makeAddrAndKey("other escrow");
        ITicketEscrow.Terms memory wide = terms(NATIVE);
        wide.maxThreshold = HALF;
        open(otherKey, payer, wide, BALANCE + PENALTY);
        _stopped(escrows, other, merchant, w);
        assertEq(escrows.escrowOf(other).balance, BALANCE);
    }

    function _notToOtherRecipient(ITicketEscrow.Winner memory w) private {
        _stopped(escrows, escrow, merchant2, w);
        assertEq(creditOf(merchant2), 0);
    }

    /// @dev In the other domain, escrow or hand the same fields are another ticket. With luck on its side (the secret is
    /// tried until it wins there), it is still nobody's promise.
    function _stopped(TicketEscrow where, address from, address recipient, ITicketEscrow.Winner memory w) private {
        bytes32 secret = r1;
        ITicketEscrow.Ticket memory there = t;
        (there.escrow, there.recipient) = (from, recipient);
        bytes32 digest;
        for (uint256 i;; ++i) {
            there.commitment = where.commitmentOf(ITicketEscrow.CoinCommitment(recipient, secret));
            digest = where.ticketDigest(there);
            if (drawOf(digest, secret) < HALF) break;
            secret = keccak256(abi.encode("try", i));
        }
        address recovered = ecrecover(digest, w.signature.v, w.signature.r, w.signature.s);
        vm.prank(recipient);
        vm.expectRevert(
            abi.encodeWithSelector(
                ITicketEscrow.TicketNotSigned.selector, uint256(uint160(recovered)), uint256(uint160(from))
            )
        );
        where.claim(recipient, from, secret, w);
    }

    /// @dev On the fork nothing was claimed yet: puts the pair's slot back.
    function _unpay() private {
        vm.record();
        escrows.pairOf(escrow, merchant);
        (bytes32[] memory reads,) = vm.accesses(address(escrows));
        vm.store(address(escrows), reads[0], 0);
        assertEq(escrows.pairOf(escrow, merchant).lastNonce, 0);
    }
}
