// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {TicketFixture} from "./TicketFixture.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";
import {TicketEscrow} from "contracts/ticket/TicketEscrow.sol";
import {TicketHash} from "contracts/ticket/TicketHash.sol";

/// @notice Golden vectors that Rust and Solidity read alike: `shared-ticket.json` (the project family's) and `ticket.json`
/// (our own, with openings and refused signatures). The contract stands at the address and chain that the vectors sign for.
contract VectorsTest is TicketFixture {
    string private _json;

    function test_vectors_SharedTicketsAgree() external {
        _load("shared-ticket.json");
        // Mode `vuf` has no contract yet; its tickets and digests are of the same type and must agree all the same.
        (uint256 coins, uint256 others) = _tickets();
        assertEq(coins, 4, "coin tickets of the shared vectors");
        assertEq(others, 4, "vuf tickets of the shared vectors");
    }

    function test_vectors_OwnTicketsAgree() external {
        _load("ticket.json");
        (uint256 coins, uint256 others) = _tickets();
        assertGe(coins, 20, "coin tickets of our vectors");
        assertEq(others, 0, "vuf tickets of our vectors");
    }

    function test_vectors_OwnOpeningsAgree() external {
        _load("ticket.json");
        uint256 count;
        for (; vm.keyExistsJson(_json, _at("openings", count)); ++count) {
            string memory at = _at("openings", count);
            ITicketEscrow.Opening memory o = ITicketEscrow.Opening({
                escrow: _address(at, ".escrow"),
                payer: _address(at, ".payer"),
                asset: _address(at, ".asset"),
                prize: _uint(at, ".prize"),
                maxThreshold: _uint(at, ".maxThreshold"),
                ticketCap: uint64(_uint(at, ".ticketCap")),
                penalty: _uint(at, ".penalty")
            });
            bytes32 digest = escrows.openingDigest(o);
            assertEq(digest, _word(at, ".digest"), at);
            ITicketEscrow.Signature memory s = _signature(at);
            assertEq(ecrecover(digest, s.v, s.r, s.s), o.escrow, at);
            _opens(o, s);
        }
        assertGe(count, 2, "openings of our vectors");
    }

    /// What Rust refuses as a signature, the contract refuses too.
    function test_vectors_OwnRejectedSignaturesAreRefused() external {
        _load("ticket.json");
        // The first ticket, a second later.
        ITicketEscrow.Ticket memory t = _ticket(_at("tickets", 0));
        t.expiry += 1;
        bytes32 digest = escrows.ticketDigest(t);
        uint256 count;
        for (; vm.keyExistsJson(_json, _at("rejectedSignatures", count)); ++count) {
            string memory at = _at("rejectedSignatures", count);
            assertEq(digest, _word(at, ".digest"), at);
            ITicketEscrow.Signature memory bad =
                ITicketEscrow.Signature(bytes32(_uint(at, ".r")), bytes32(_uint(at, ".s")), uint8(_uint(at, ".v")));
            _refuses(t, bad, at);
        }
        assertGe(count, 8, "refused signatures of our vectors");
    }

    // ── what is compared ──

    function _tickets() private returns (uint256 coins, uint256 others) {
        while (vm.keyExistsJson(_json, _at("tickets", coins + others))) {
            string memory at = _at("tickets", coins + others);
            _compare(at);
            if (_same(at, ".mode", "coin")) {
                _compareCoin(at);
                ++coins;
            } else {
                ++others;
            }
        }
    }

    /// @dev Digest, signature, draw and win.
    function _compare(string memory at) private view {
        ITicketEscrow.Ticket memory t = _ticket(at);
        bytes32 digest = escrows.ticketDigest(t);
        assertEq(digest, _word(at, ".digest"), at);

        ITicketEscrow.Signature memory s = _signature(at);
        assertEq(ecrecover(digest, s.v, s.r, s.s), t.escrow, at);
        // RFC 6979 makes one signature of a key and a digest.
        assertEq(abi.encode(sign(_uint("", ".escrowKey"), digest)), abi.encode(s), at);

        uint256 drawn = TicketHash.draw(digest, _word(at, ".half"));
        assertEq(drawn, _uint(at, ".draw"), at);
        assertEq(drawn < t.winThreshold, vm.parseJsonBool(_json, string.concat(at, ".win")), at);
    }

    function _compareCoin(string memory at) private {
        bytes32 secret = _word(at, ".r1");
        assertEq(_word(at, ".half"), secret, at);
        ITicketEscrow.Ticket memory t = _ticket(at);
        assertEq(escrows.commitmentOf(ITicketEscrow.CoinCommitment(t.recipient, secret)), t.commitment, at);
        _claims(t, _signature(at), secret, _uint(at, ".draw"), at);
    }

    /// @dev The contract itself pays exactly the winners that its terms cover, and names the first rule the others break.
    function _claims(
        ITicketEscrow.Ticket memory t,
        ITicketEscrow.Signature memory s,
        bytes32 half,
        uint256 drawn,
        string memory at
    ) private {
        uint256 before = vm.snapshotState();
        vm.warp(t.expiry);
        ITicketEscrow.Terms memory opened = terms(NATIVE);
        opened.ticketCap = type(uint32).max;
        opened.maxThreshold = uint256(type(uint24).max) << 232;
        open(_uint("", ".escrowKey"), payer, opened, BALANCE + PENALTY);

        bytes memory reason;
        if (t.nonce >= opened.ticketCap) {
            reason = abi.encodeWithSelector(ITicketEscrow.NonceNotBelowCap.selector, t.nonce, opened.ticketCap);
        } else if (t.winThreshold > opened.maxThreshold) {
            reason =
                abi.encodeWithSelector(ITicketEscrow.ThresholdAboveMax.selector, t.winThreshold, opened.maxThreshold);
        } else if (drawn >= t.winThreshold) {
            reason = abi.encodeWithSelector(ITicketEscrow.DrawNotBelowThreshold.selector, drawn, t.winThreshold);
        }
        if (reason.length != 0) vm.expectRevert(reason);
        vm.prank(t.recipient);
        escrows.claim(t.recipient, t.escrow, half, ITicketEscrow.Winner(t.r2, t.winThreshold, t.expiry, t.nonce, s));
        assertEq(escrows.creditOf(NATIVE, t.recipient), reason.length == 0 ? PRIZE : 0, at);
        vm.revertToState(before);
    }

    function _opens(ITicketEscrow.Opening memory o, ITicketEscrow.Signature memory s) private {
        if (o.asset != NATIVE) return; // the vectors' token is not on this chain; the digest is what they fix
        uint256 before = vm.snapshotState();
        vm.deal(o.payer, o.penalty);
        vm.prank(o.payer);
        escrows.open{value: o.penalty}(
            o.escrow, ITicketEscrow.Terms(o.asset, o.prize, o.maxThreshold, o.ticketCap, o.penalty), o.penalty, s
        );
        assertEq(uint256(escrows.escrowOf(o.escrow).status), uint256(ITicketEscrow.Status.OPEN));
        vm.revertToState(before);
    }

    /// @dev Through the equivocation proof, which takes any ticket of the key: nothing but the signature can be wrong.
    function _refuses(ITicketEscrow.Ticket memory t, ITicketEscrow.Signature memory bad, string memory at) private {
        uint256 before = vm.snapshotState();
        uint256 key = _uint("", ".escrowKey");
        open(key, payer, terms(NATIVE), BALANCE + PENALTY);
        ITicketEscrow.Ticket memory twin =
            ITicketEscrow.Ticket(t.escrow, t.recipient, t.commitment, ~t.r2, t.winThreshold, t.expiry, t.nonce);
        ITicketEscrow.Signature memory good = sign(key, escrows.ticketDigest(twin));
        vm.expectPartialRevert(ITicketEscrow.WrongSigner.selector);
        escrows.proveEquivocation(t, bad, twin, good);
        // The same call with the right signature passes.
        escrows.proveEquivocation(t, sign(key, escrows.ticketDigest(t)), twin, good);
        assertEq(escrows.escrowOf(t.escrow).penalty, 0, at);
        vm.revertToState(before);
    }

    // ── reading ──

    function _load(string memory file) private {
        _json = vm.readFile(string.concat("tests/vectors/", file));
        assertEq(_uint("", ".chainId"), 31_337);
        vm.chainId(31_337);
        address at = _address("", ".verifyingContract");
        // With its constructor, so that the immutables of EIP-712 are those of this address.
        deployCodeTo("TicketEscrow.sol:TicketEscrow", at);
        escrows = TicketEscrow(at);

        assertEq(vm.parseJsonString(_json, ".domainName"), "Micropay Ticket Escrow");
        assertEq(vm.parseJsonString(_json, ".domainVersion"), "1");
        assertEq(escrows.domainSeparator(), _word("", ".domainSeparator"));
        assertEq(vm.addr(_uint("", ".escrowKey")), _address("", ".escrow"));
        string[] memory types = vm.parseJsonStringArray(_json, ".types");
        assertEq(keccak256(bytes(types[0])), TICKET_TYPE, types[0]);
        assertEq(types[1], "CoinCommitment(address recipient,bytes32 r1)");
    }

    function _ticket(string memory at) private view returns (ITicketEscrow.Ticket memory) {
        return ITicketEscrow.Ticket({
            escrow: _address("", ".escrow"),
            recipient: _address("", ".recipient"),
            commitment: _word(at, ".commitment"),
            r2: _word(at, ".r2"),
            winThreshold: _uint(at, ".winThreshold"),
            expiry: uint64(_uint(at, ".expiry")),
            nonce: uint64(_uint(at, ".nonce"))
        });
    }

    function _signature(string memory at) private view returns (ITicketEscrow.Signature memory) {
        bytes memory raw = vm.parseJsonBytes(_json, string.concat(at, ".signature"));
        assertEq(raw.length, 65, "r, s, v");
        (bytes32 r, bytes32 s) = abi.decode(raw, (bytes32, bytes32));
        return ITicketEscrow.Signature(r, s, uint8(raw[64]));
    }

    function _at(string memory list, uint256 i) private pure returns (string memory) {
        return string.concat(".", list, "[", vm.toString(i), "]");
    }

    function _same(string memory at, string memory field, string memory wanted) private view returns (bool) {
        return keccak256(bytes(vm.parseJsonString(_json, string.concat(at, field)))) == keccak256(bytes(wanted));
    }

    function _uint(string memory at, string memory field) private view returns (uint256) {
        return vm.parseJsonUint(_json, string.concat(at, field));
    }

    function _word(string memory at, string memory field) private view returns (bytes32) {
        return vm.parseJsonBytes32(_json, string.concat(at, field));
    }

    function _address(string memory at, string memory field) private view returns (address) {
        return vm.parseJsonAddress(_json, string.concat(at, field));
    }
}
