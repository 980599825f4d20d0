// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {TicketFixture} from "./TicketFixture.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";

/// @notice What the unit tests of every step add to {TicketFixture}: one asset under test, escrows in any status, spoiled
/// signatures. A test with {eachAsset} runs twice, once per asset: one contract, because the
/// compiler takes seconds for each.
abstract contract StepTest is TicketFixture {
    /// @dev The asset under test.
    address internal asset;
    address internal other = makeAddr("other merchant");

    /// @dev Runs the test with the native asset, and again from the start with a plain OpenZeppelin token.
    modifier eachAsset() {
        uint256 start = vm.snapshotState();
        withAsset(NATIVE);
        for (uint256 i; i < 2; ++i) {
            if (i == 1) {
                vm.revertToState(start);
                withAsset(address(token));
            }
            emit log_named_address("asset", asset);
            _;
        }
    }

    /// @dev For the tests of one asset only.
    modifier onlyNative() {
        withAsset(NATIVE);
        _;
    }

    /// @dev For the tests of one asset only.
    modifier onlyErc20() {
        withAsset(address(token));
        _;
    }

    function withAsset(address asset_) internal {
        asset = asset_;
        _arrange();
    }

    /// @dev What a step's tests have in common, once the asset is known.
    function _arrange() internal virtual {}

    // ── asset ──

    /// @dev The native value to send along with a deposit of `amount`.
    function valueOf(uint256 amount) internal view returns (uint256) {
        return asset == NATIVE ? amount : 0;
    }

    /// @dev Gives `who` `amount` of the asset, ready to be deposited.
    function fund(address who, uint256 amount) internal {
        if (asset == NATIVE) {
            vm.deal(who, who.balance + amount);
        } else {
            token.mint(who, amount);
            vm.prank(who);
            token.approve(address(escrows), type(uint256).max);
        }
    }

    function heldBy(address who) internal view returns (uint256) {
        return asset == NATIVE ? who.balance : token.balanceOf(who);
    }

    function creditOf(address who) internal view returns (uint256) {
        return escrows.creditOf(asset, who);
    }

    // ── states ──

    function openWith(uint256 balance) internal {
        open(escrowKey, payer, terms(asset), balance + PENALTY);
    }

    /// @dev Leaves the default escrow with a debt of half a prize to the merchant. Nonce 1 is used.
    function makeInsolvent() internal {
        openWith(PRIZE / 2);
        claimAs(merchant, 1);
    }

    /// @dev Leaves the default escrow closed by {TicketEscrow.withdraw}.
    function makeWithdrawn() internal {
        openWith(BALANCE);
        vm.startPrank(payer);
        escrows.requestWithdraw(escrow);
        skip(escrows.WITHDRAW_DELAY());
        escrows.withdraw(escrow);
        vm.stopPrank();
    }

    /// @dev Leaves the default escrow closed by {TicketEscrow.burn}. Nonce 1 is used.
    function makeBurned() internal {
        makeInsolvent();
        skip(escrows.CURE_PERIOD() + 1);
        escrows.burn(escrow);
    }

    function claimAs(address recipient, uint64 nonce) internal {
        ITicketEscrow.Winner memory w = signed(escrowKey, ticket(escrow, recipient, r1, nonce, true));
        vm.prank(recipient);
        escrows.claim(recipient, escrow, r1, w);
    }

    function statusOf(address key) internal view returns (ITicketEscrow.Status) {
        return escrows.escrowOf(key).status;
    }

    function assertStatus(ITicketEscrow.Status wanted) internal view {
        assertEq(uint256(statusOf(escrow)), uint256(wanted), "status");
    }

    function assertEscrow(ITicketEscrow.Escrow memory got, ITicketEscrow.Escrow memory wanted) internal pure {
        assertEq(got.payer, wanted.payer, "payer");
        assertEq(got.asset, wanted.asset, "asset");
        assertEq(got.balance, wanted.balance, "balance");
        assertEq(got.penalty, wanted.penalty, "penalty");
        assertEq(got.prize, wanted.prize, "prize");
        assertEq(got.maxThreshold, wanted.maxThreshold, "maxThreshold");
        assertEq(got.ticketCap, wanted.ticketCap, "ticketCap");
        assertEq(got.withdrawAt, wanted.withdrawAt, "withdrawAt");
        assertEq(got.cureBy, wanted.cureBy, "cureBy");
        assertEq(got.debt, wanted.debt, "debt");
        assertEq(got.earmarked, wanted.earmarked, "earmarked");
        assertEq(got.earmarkUntil, wanted.earmarkUntil, "earmarkUntil");
        assertEq(uint256(got.status), uint256(wanted.status), "status");
        assertEq(keccak256(abi.encode(got)), keccak256(abi.encode(wanted)), "a field this helper forgets");
    }

    function assertPair(ITicketEscrow.Pair memory got, uint64 lastNonce, uint32 earmarkPrizes, uint64 earmarkUntil)
        internal
        pure
    {
        assertEq(got.lastNonce, lastNonce, "lastNonce");
        assertEq(got.earmarkPrizes, earmarkPrizes, "earmarkPrizes");
        assertEq(got.earmarkUntil, earmarkUntil, "earmarkUntil");
    }

    // ── signatures ──
    // ERC-2098 ("short", 64 bytes) and 65-byte strings cannot be written here: a {ITicketEscrow.Signature} is three
    // words (r, s, v), so the ABI has no second encoding of one signature. What remains to refuse is a high `s`, a `v`
    // that is not 27 or 28, and `r` or `s` outside the group.

    function malleated(ITicketEscrow.Signature memory s) internal pure returns (ITicketEscrow.Signature memory) {
        return ITicketEscrow.Signature(s.r, bytes32(ORDER - uint256(s.s)), s.v == 27 ? 28 : 27);
    }

    /// @dev Every way to spoil a signature so that no address is recovered.
    function unrecoverable(ITicketEscrow.Signature memory s)
        internal
        pure
        returns (ITicketEscrow.Signature[] memory list)
    {
        list = new ITicketEscrow.Signature[](12);
        list[0] = malleated(s);
        list[1] = ITicketEscrow.Signature(s.r, s.s, 0);
        list[2] = ITicketEscrow.Signature(s.r, s.s, 1);
        list[3] = ITicketEscrow.Signature(s.r, s.s, s.v - 27);
        list[4] = ITicketEscrow.Signature(s.r, s.s, 26);
        list[5] = ITicketEscrow.Signature(s.r, s.s, 29);
        list[6] = ITicketEscrow.Signature(s.r, s.s, 255);
        list[7] = ITicketEscrow.Signature(0, s.s, s.v);
        list[8] = ITicketEscrow.Signature(s.r, 0, s.v);
        list[9] = ITicketEscrow.Signature(0, 0, 0);
        list[10] = ITicketEscrow.Signature(bytes32(ORDER), s.s, s.v);
        list[11] = ITicketEscrow.Signature(s.r, bytes32(type(uint256).max), s.v);
    }

    function recover(bytes32 digest, ITicketEscrow.Signature memory s) internal pure returns (address) {
        return ecrecover(digest, s.v, s.r, s.s);
    }

    function none() internal pure returns (ITicketEscrow.Signature memory s) {}
}
