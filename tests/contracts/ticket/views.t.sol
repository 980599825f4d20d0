// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {TicketFixture} from "./TicketFixture.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";
import {TicketHash} from "contracts/ticket/TicketHash.sol";

/// @notice Digests against EIP-712 written out by hand, constants against the design, and empty views.
contract ViewsTest is TicketFixture {
    // Typed by hand from the design's section 1.1, as the fixture's ticket type is.
    bytes32 private constant DOMAIN_TYPE =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant COIN_TYPE = keccak256("CoinCommitment(address recipient,bytes32 r1)");
    bytes32 private constant OPENING_TYPE = keccak256(
        "Opening(address escrow,address payer,address asset,uint256 prize,uint256 maxThreshold,uint64 ticketCap,uint256 penalty)"
    );

    function test_constants_AreTheDesigns() external view {
        assertEq(escrows.WITHDRAW_DELAY(), 3 * 24 * 3600);
        assertEq(escrows.CURE_PERIOD(), 3 * 24 * 3600);
        assertEq(escrows.EARMARK_MARGIN(), 6 * 3600);
        assertEq(escrows.MAX_EARMARK(), 365 * 24 * 3600);
        assertEq(escrows.THRESHOLD_UNIT(), 2 ** 232);
        // Rule E7: the longest ticket life (24 h) and the claim margin (6 h) fit in the delay.
        assertLe(24 * 3600 + 6 * 3600, escrows.WITHDRAW_DELAY());
    }

    function test_types_AreTheDesigns() external pure {
        assertEq(TicketHash.TICKET_TYPEHASH, TICKET_TYPE);
        assertEq(TicketHash.COIN_COMMITMENT_TYPEHASH, COIN_TYPE);
        assertEq(TicketHash.OPENING_TYPEHASH, OPENING_TYPE);
    }

    function test_eip712Domain_NamesWhatIsSigned() external view {
        (, string memory name, string memory version, uint256 chainId, address at,,) = escrows.eip712Domain();
        assertEq(name, "Micropay Ticket Escrow");
        assertEq(version, "1");
        assertEq(chainId, block.chainid);
        assertEq(at, address(escrows));
        assertEq(escrows.domainSeparator(), _domain(block.chainid, address(escrows)));
    }

    /// Rule E1: after a fork of the chain, what was signed for the old one is nothing here.
    function testFuzz_domain_IsRecomputedWhenTheChainIdChanges(uint64 chainId) external {
        chainId = uint64(bound(chainId, 1, type(uint64).max - 1));
        vm.assume(chainId != 31_337);
        ITicketEscrow.Ticket memory t;
        bytes32 digest = escrows.ticketDigest(t);
        bytes32 opening = escrows.openingDigest(_opening());
        bytes32 commitment = commitmentTo(merchant, r1);

        vm.chainId(chainId);
        bytes32 domain = _domain(chainId, address(escrows));
        assertEq(escrows.domainSeparator(), domain);
        assertEq(escrows.ticketDigest(t), _digest(domain, keccak256(abi.encode(TICKET_TYPE, t))));
        assertNotEq(escrows.ticketDigest(t), digest);
        assertNotEq(escrows.openingDigest(_opening()), opening);
        assertNotEq(commitmentTo(merchant, r1), commitment);

        vm.chainId(31_337);
        assertEq(escrows.ticketDigest(t), digest);
    }

    /// The assembly of {TicketHash} against the compiler's own encoding.
    function testFuzz_ticketDigest_IsEip712(ITicketEscrow.Ticket memory t) external view {
        bytes32 struct_ = keccak256(
            abi.encode(TICKET_TYPE, t.escrow, t.recipient, t.commitment, t.r2, t.winThreshold, t.expiry, t.nonce)
        );
        assertEq(escrows.ticketDigest(t), _digest(_domain(block.chainid, address(escrows)), struct_));
    }

    /// It writes over the word before the ticket for the time of the hash, and puts it back.
    function testFuzz_ticketHash_LeavesMemoryAsItWas(ITicketEscrow.Ticket memory t, bytes32 word) external pure {
        bytes32[] memory before = new bytes32[](1);
        before[0] = word;
        ITicketEscrow.Ticket memory copy =
            ITicketEscrow.Ticket(t.escrow, t.recipient, t.commitment, t.r2, t.winThreshold, t.expiry, t.nonce);
        bytes32 first = TicketHash.ticket(copy);
        assertEq(before[0], word);
        assertEq(TicketHash.ticket(copy), first);
        assertEq(first, keccak256(abi.encode(TICKET_TYPE, t)));
        assertEq(keccak256(abi.encode(copy)), keccak256(abi.encode(t)));
    }

    function testFuzz_openingDigest_IsEip712(ITicketEscrow.Opening memory o) external view {
        bytes32 struct_ = keccak256(
            abi.encode(OPENING_TYPE, o.escrow, o.payer, o.asset, o.prize, o.maxThreshold, o.ticketCap, o.penalty)
        );
        assertEq(escrows.openingDigest(o), _digest(_domain(block.chainid, address(escrows)), struct_));
    }

    function testFuzz_commitmentOf_IsEip712(address recipient, bytes32 secret) external view {
        bytes32 struct_ = keccak256(abi.encode(COIN_TYPE, recipient, secret));
        assertEq(commitmentTo(recipient, secret), _digest(_domain(block.chainid, address(escrows)), struct_));
    }

    function testFuzz_draw_HashesTheDigestAndTheHalf(bytes32 digest, bytes32 half) external pure {
        assertEq(TicketHash.draw(digest, half), uint256(keccak256(abi.encode(digest, half))));
    }

    function testFuzz_views_OfWhatDoesNotExistAreEmpty(address a, address b) external view {
        ITicketEscrow.Escrow memory nothing;
        assertEq(keccak256(abi.encode(escrows.escrowOf(a))), keccak256(abi.encode(nothing)));
        ITicketEscrow.Pair memory nobody;
        assertEq(keccak256(abi.encode(escrows.pairOf(a, b))), keccak256(abi.encode(nobody)));
        assertEq(escrows.debtOf(a, b), 0);
        assertEq(escrows.creditOf(a, b), 0);
        assertFalse(escrows.isOperator(a, b));
    }

    function test_receive_RevertWhen_ValueIsSentWithoutACall() external {
        vm.prank(payer);
        (bool ok,) = address(escrows).call{value: 1}("");
        assertFalse(ok, "nothing could ever take it out");
    }

    function _opening() private view returns (ITicketEscrow.Opening memory) {
        return ITicketEscrow.Opening(escrow, payer, NATIVE, PRIZE, RHO_1_128, CAP, PENALTY);
    }

    function _domain(uint256 chainId, address at) private pure returns (bytes32) {
        return keccak256(abi.encode(DOMAIN_TYPE, keccak256("Micropay Ticket Escrow"), keccak256("1"), chainId, at));
    }

    function _digest(bytes32 domain, bytes32 struct_) private pure returns (bytes32) {
        return keccak256(abi.encodePacked(hex"1901", domain, struct_));
    }
}
