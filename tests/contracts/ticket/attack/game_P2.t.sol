// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

// P2 of section 2.1 and row M1-13. The malicious merchant chooses r1 as it likes, but before it sees r2, and cannot change
// it after. The paper's bound holds only while r2 cannot be foreseen: whoever can, chooses r1 = r2 and always wins. Our
// payer draws r2 after the commitment arrives, from a PRF; then every choice of r1 wins at ρ, and the contract takes no
// second opening.

import {AttackFixture} from "./AttackFixture.sol";
import {PaperRule} from "./PaperRule.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";

contract GameP2Test is AttackFixture {
    uint256 private constant DRAWS = 16_384;

    function test_game_P2_bound_r1() external view {
        // The paper's rule with an r2 that can be foreseen: the merchant wins each time.
        for (uint256 i; i < 100; ++i) {
            uint128 foreseen = uint128(uint256(keccak256(abi.encode("counter", i))));
            assertTrue(PaperRule.lastDigitsWin(foreseen, foreseen) && PaperRule.firstDigitsWin(foreseen, foreseen));
        }

        // Ours, r2 drawn after the commitment: bound to any r1, the merchant wins at ρ.
        assertRate(_play(bytes32(0), false), DRAWS, 128, "r1 = 0");
        assertRate(_play(bytes32(type(uint256).max), false), DRAWS, 128, "r1 = all ones");
        assertRate(_play(_groundR1(), false), DRAWS, 128, "r1 ground for a low commitment");
        assertRate(_play(bytes32(0), true), DRAWS, 128, "another r1 for every ticket");
    }

    /// @dev Bound means bound: of a losing ticket no other r1, nor another recipient's opening, makes a winner.
    function test_game_P2_no_second_opening() external {
        openDefault(NATIVE);
        ITicketEscrow.Ticket memory t = ticket(escrow, merchant, r1, 1, false);
        ITicketEscrow.Winner memory w = signed(escrowKey, t);
        uint256 drawn = drawOf(escrows.ticketDigest(t), r1);
        vm.prank(merchant);
        vm.expectRevert(abi.encodeWithSelector(ITicketEscrow.DrawNotBelowThreshold.selector, drawn, t.winThreshold));
        escrows.claim(merchant, escrow, r1, w);

        uint256 refusals;
        for (uint256 i; i < 512; ++i) {
            bytes32 other = keccak256(abi.encode("another r1", i));
            vm.prank(merchant);
            try escrows.claim(merchant, escrow, other, w) {
                fail();
            } catch (bytes memory reason) {
                // It changes the commitment, so the ticket: drawn anew it wins at ρ, but then nobody signed it.
                if (bytes4(reason) == ITicketEscrow.TicketNotSigned.selector) ++refusals;
                else assertEq(bytes4(reason), ITicketEscrow.DrawNotBelowThreshold.selector);
            }
        }
        assertGt(refusals, 0);
        assertEq(creditOf(merchant), 0);
        assertEq(escrows.escrowOf(escrow).balance, BALANCE);
    }

    function _play(bytes32 secret, bool fresh) private view returns (uint256 wins) {
        bytes32 domain = escrows.domainSeparator();
        ITicketEscrow.Ticket memory t = ticket(escrow, merchant, secret, 1, true);
        for (uint256 i; i < DRAWS; ++i) {
            if (fresh) {
                secret = bytes32(i);
                t.commitment = commitmentTo(merchant, secret);
            }
            t.nonce = uint64(i + 1);
            t.r2 = keccak256(abi.encode("payer's PRF", secret, i));
            if (isWinner(t, domain, secret)) ++wins;
        }
    }

    function _groundR1() private view returns (bytes32 best) {
        bytes32 lowest = bytes32(type(uint256).max);
        for (uint256 i; i < 256; ++i) {
            bytes32 commitment = commitmentTo(merchant, bytes32(i));
            if (commitment < lowest) (lowest, best) = (commitment, bytes32(i));
        }
    }
}
