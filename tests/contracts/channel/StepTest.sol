// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {ChannelFixture} from "./ChannelFixture.sol";
import {IPaymentChannel} from "contracts/channel/IPaymentChannel.sol";

/// @notice What the unit tests of every step add to {ChannelFixture}: one asset under test, an open channel, spoiled
/// signatures. A test with {eachAsset} runs twice, once per asset: one contract, because the compiler takes seconds for
/// each.
abstract contract StepTest is ChannelFixture {
    /// @dev The asset under test.
    address internal asset;
    /// @dev The channel under test, open under the default permit.
    IPaymentChannel.Terms internal terms;
    bytes32 internal id;
    uint64 internal expiry;
    bytes32 internal constant TRANSCRIPT = keccak256("transcript");

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
    function _arrange() internal virtual {
        terms = openDefault(asset);
        id = terms.permit.channelId;
        expiry = terms.permit.expiry;
    }

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
            token.approve(address(channels), type(uint256).max);
        }
    }

    function heldBy(address who) internal view returns (uint256) {
        return asset == NATIVE ? who.balance : token.balanceOf(who);
    }

    function creditOf(address who) internal view returns (uint256) {
        return channels.creditOf(asset, who);
    }

    function assertCredits(uint256 ofVendor, uint256 ofClient) internal view {
        assertEq(creditOf(vendor), ofVendor, "vendor's credit");
        assertEq(creditOf(client), ofClient, "client's credit");
    }

    // ── channels ──

    /// @dev The default channel's terms, in memory.
    function its() internal view returns (IPaymentChannel.Terms memory) {
        return terms;
    }

    function checkpoint(uint32 index) internal {
        channels.checkpoint(its(), proof(its(), index));
    }

    function close(uint32 index) internal {
        IPaymentChannel.Proof memory p = index == 0 ? noProof() : proof(its(), index);
        vm.prank(vendor);
        channels.close(its(), p, TRANSCRIPT, noReceipt());
    }

    function refund() internal {
        vm.warp(expiry + 1);
        vm.prank(client);
        channels.refund(its());
    }

    function assertChannel(uint32 settled, uint32 length, uint64 expiry_, IPaymentChannel.Status status) internal view {
        IPaymentChannel.Channel memory wanted = IPaymentChannel.Channel(settled, length, expiry_, status, false, false);
        IPaymentChannel.Channel memory got = channels.channelOf(its());
        assertEq(got.settled, settled, "settled");
        assertEq(got.length, length, "length");
        assertEq(got.expiry, expiry_, "expiry");
        assertEq(uint256(got.status), uint256(status), "status");
        assertEq(keccak256(abi.encode(got)), keccak256(abi.encode(wanted)), "a proof");
        (IPaymentChannel.Status short, uint32 index) = channels.statusOf(id);
        assertEq(uint256(short), uint256(status), "statusOf");
        assertEq(index, settled, "statusOf");
    }

    function assertOpen(uint32 settled) internal view {
        assertChannel(settled, LENGTH, expiry, IPaymentChannel.Status.OPEN);
    }

    function assertClosed(uint32 settled) internal view {
        assertChannel(settled, LENGTH, expiry, IPaymentChannel.Status.CLOSED);
    }

    /// @dev Terms that the contract does not know: of another anchor.
    function otherTerms() internal view returns (IPaymentChannel.Terms memory t) {
        t = its();
        t.permit.anchor = keccak256("another anchor");
    }

    function unknownTerms() internal view returns (bytes memory) {
        return abi.encodeWithSelector(
            IPaymentChannel.UnknownTerms.selector,
            channels.termsHash(otherTerms()),
            bytes32(bytes28(channels.termsHash(its())))
        );
    }

    function wrongStatus(IPaymentChannel.Status got) internal pure returns (bytes memory) {
        return abi.encodeWithSelector(IPaymentChannel.WrongStatus.selector, got, IPaymentChannel.Status.OPEN);
    }

    function tooLate() internal view returns (bytes memory) {
        return abi.encodeWithSelector(IPaymentChannel.TooLate.selector, vm.getBlockTimestamp(), expiry);
    }

    function wrongSigner(address recovered, address expected) internal pure returns (bytes memory) {
        return abi.encodeWithSelector(IPaymentChannel.WrongSigner.selector, recovered, expected);
    }

    // ── signatures ──
    // ERC-2098 ("short", 64 bytes) and 65-byte strings cannot be written here: an {IPaymentChannel.Signature} is three
    // words (r, s, v), so the ABI has no second encoding of one signature. What remains to refuse is a high `s`, a `v`
    // that is not 27 or 28, and `r` or `s` outside the group.

    function malleated(IPaymentChannel.Signature memory s) internal pure returns (IPaymentChannel.Signature memory) {
        return IPaymentChannel.Signature(s.r, bytes32(ORDER - uint256(s.s)), s.v == 27 ? 28 : 27);
    }

    /// @dev Every way to spoil a signature so that no address is recovered.
    function unrecoverable(IPaymentChannel.Signature memory s)
        internal
        pure
        returns (IPaymentChannel.Signature[] memory list)
    {
        list = new IPaymentChannel.Signature[](12);
        list[0] = malleated(s);
        list[1] = IPaymentChannel.Signature(s.r, s.s, 0);
        list[2] = IPaymentChannel.Signature(s.r, s.s, 1);
        list[3] = IPaymentChannel.Signature(s.r, s.s, s.v - 27);
        list[4] = IPaymentChannel.Signature(s.r, s.s, 26);
        list[5] = IPaymentChannel.Signature(s.r, s.s, 29);
        list[6] = IPaymentChannel.Signature(s.r, s.s, 255);
        list[7] = IPaymentChannel.Signature(0, s.s, s.v);
        list[8] = IPaymentChannel.Signature(s.r, 0, s.v);
        list[9] = IPaymentChannel.Signature(0, 0, 0);
        list[10] = IPaymentChannel.Signature(bytes32(ORDER), s.s, s.v);
        list[11] = IPaymentChannel.Signature(s.r, bytes32(type(uint256).max), s.v);
    }

    function recover(bytes32 digest, IPaymentChannel.Signature memory s) internal pure returns (address) {
        return ecrecover(digest, s.v, s.r, s.s);
    }

    function none() internal pure returns (IPaymentChannel.Signature memory s) {}
}
