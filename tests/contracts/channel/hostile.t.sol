// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {
    BlocklistToken,
    FalseReturnToken,
    FeeOnTransferToken,
    LyingToken,
    MintableToken,
    NoReturnToken,
    ReentrantToken,
    TaxedSenderToken
} from "../mocks/HostileTokens.sol";
import {ChannelFixture} from "./ChannelFixture.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {IPaymentChannel} from "contracts/channel/IPaymentChannel.sol";

/// @notice Tokens with faults, through the steps that move money. What the faults do to a deposit or a withdrawal as such is
/// in `Ledger.t.sol`.
contract HostileTokenTest is ChannelFixture {
    // ── what does not arrive in full opens nothing ──

    function test_feeOnTransfer_RevertWhen_LessArrivesThanTheChainCosts() external {
        FeeOnTransferToken fee = new FeeOnTransferToken();
        _give(fee, client);
        _refused(
            address(fee), abi.encodeWithSelector(IPaymentChannel.FundsDiffer.selector, DEPOSIT - DEPOSIT / 100, DEPOSIT)
        );
    }

    function test_lying_RevertWhen_NothingArrives() external {
        LyingToken lying = new LyingToken();
        _give(lying, client);
        _refused(address(lying), abi.encodeWithSelector(IPaymentChannel.FundsDiffer.selector, 0, DEPOSIT));
    }

    function test_falseReturn_RevertWhen_ADepositFails() external {
        FalseReturnToken failing = new FalseReturnToken();
        _give(failing, client);
        IPaymentChannel.Terms memory t = openDefault(address(failing));
        failing.setFailing(true);
        IPaymentChannel.OpenPermit memory permit = longer(t, 150);
        IPaymentChannel.Signature memory sigma0 = signPermit(permit);
        vm.expectRevert(abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, address(failing)));
        vm.prank(client);
        channels.topUp(t, permit, sigma0);
        // A close needs no token; what it credits waits.
        _close(t, 40);
        assertEq(channels.creditOf(address(failing), vendor), uint256(40) * UNIT);
    }

    // ── nothing, blocked, taxed ──

    function test_noReturn_WholeLife() external {
        NoReturnToken silent = new NoReturnToken();
        _give(silent, client);
        _close(openDefault(address(silent)), 40);
        vm.prank(vendor);
        channels.withdrawCredit(address(silent), vendor, uint256(40) * UNIT);
        vm.prank(client);
        channels.withdrawCredit(address(silent), client, uint256(60) * UNIT);
        assertEq(silent.balanceOf(address(channels)), 0);
    }

    /// A blocked party holds up neither the close nor the other one, and collects to another address.
    function test_blocklist_HoldsUpNoClose() external {
        BlocklistToken blocking = new BlocklistToken();
        _give(blocking, client);
        IPaymentChannel.Terms memory t = openDefault(address(blocking));
        blocking.setBlocked(vendor, true);
        blocking.setBlocked(client, true);
        _close(t, 40);
        vm.prank(vendor);
        vm.expectRevert(abi.encodeWithSelector(BlocklistToken.Blocked.selector, vendor));
        channels.withdrawCredit(address(blocking), vendor, 1);
        vm.prank(vendor);
        channels.withdrawCredit(address(blocking), stranger, uint256(40) * UNIT);
        assertEq(blocking.balanceOf(stranger), uint256(40) * UNIT);
    }

    /// A token that breaks the ledger's assumption harms its own accounts; channels in other assets pay in full.
    function test_taxedSender_HarmsItsOwnAccountsAlone() external {
        TaxedSenderToken taxed = new TaxedSenderToken();
        _give(taxed, client);
        _close(openDefault(address(taxed)), LENGTH);
        bytes32 salt = keccak256("another");
        IPaymentChannel.Terms memory t = open(permitOf(NATIVE, salt, LENGTH), salt);
        _close(t, LENGTH);
        vm.startPrank(vendor);
        vm.expectRevert();
        channels.withdrawCredit(address(taxed), vendor, DEPOSIT); // the tax is not there
        channels.withdrawCredit(NATIVE, stranger, DEPOSIT);
        vm.stopPrank();
        assertEq(stranger.balance, DEPOSIT);
    }

    // ── re-entry ──

    /// A token that calls back in the middle of a deposit finds the deposits barred, and everything else as it was.
    function test_reentrant_DepositIsBarredFromTheInside() external {
        ReentrantToken evil = new ReentrantToken();
        client = address(evil);
        setReputation(client, 80);
        evil.mint(client, 100 ether);
        evil.execute(address(evil), 0, abi.encodeCall(evil.approve, (address(channels), type(uint256).max)));
        IPaymentChannel.Terms memory t = _openAs(evil, SALT);
        IPaymentChannel.Terms memory victim = _openAs(evil, keccak256("two"));
        _close(victim, 40); // leaves the token with credit

        bytes32 salt = keccak256("three");
        IPaymentChannel.OpenPermit memory permit = permitOf(address(evil), salt, LENGTH);
        IPaymentChannel.OpenPermit memory more = longer(t, 150);
        ReentrantToken.Call[] memory calls = new ReentrantToken.Call[](3);
        calls[0] = ReentrantToken.Call(
            address(channels), abi.encodeCall(channels.open, (permit, salt, bank, signPermit(permit)))
        );
        calls[1] = ReentrantToken.Call(address(channels), abi.encodeCall(channels.topUp, (t, more, signPermit(more))));
        calls[2] = ReentrantToken.Call(
            address(channels), abi.encodeCall(channels.withdrawCredit, (address(evil), stranger, 1))
        );
        evil.arm(calls);
        evil.execute(address(channels), 0, abi.encodeCall(channels.topUp, (t, more, signPermit(more))));

        (bool[] memory ok, bytes[] memory answers) = evil.answers();
        assertEq(ok.length, 6, "each before and after the money moved");
        for (uint256 i; i < ok.length; ++i) {
            assertFalse(ok[i]);
            assertEq(answers[i], abi.encodeWithSelector(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector));
        }
        assertEq(channels.channelOf(t).length, 150);
        // I1: remainder of the one channel and all credits.
        assertEq(evil.balanceOf(address(channels)), uint256(150) * UNIT + DEPOSIT);
    }

    /// Steps without a deposit are not barred, and need not be: a top-up has taken all its effect before the money moves. (Had
    /// it not, a close from within would be undone by it: the channel would be open again, and paid twice.)
    function test_reentrant_ClosingInTheMiddleOfATopUpConserves() external {
        ReentrantToken evil = new ReentrantToken();
        client = address(evil);
        vendor = address(evil);
        setReputation(client, 80);
        evil.mint(client, 100 ether);
        evil.execute(address(evil), 0, abi.encodeCall(evil.approve, (address(channels), type(uint256).max)));
        IPaymentChannel.Terms memory t = _openAs(evil, SALT);
        IPaymentChannel.OpenPermit memory more = longer(t, 150);
        ReentrantToken.Call[] memory calls = new ReentrantToken.Call[](1);
        calls[0] = ReentrantToken.Call(
            address(channels), abi.encodeCall(channels.close, (t, proof(t, 40), bytes32(0), noReceipt()))
        );
        evil.arm(calls);
        evil.execute(address(channels), 0, abi.encodeCall(channels.topUp, (t, more, signPermit(more))));
        assertEq(uint256(channels.channelOf(t).status), uint256(IPaymentChannel.Status.CLOSED));
        assertEq(channels.creditOf(address(evil), address(evil)), uint256(150) * UNIT);
        _conserved(evil, t);
    }

    function test_reentrant_ClosingInTheMiddleOfAnOpeningConserves() external {
        ReentrantToken evil = new ReentrantToken();
        client = address(evil);
        vendor = address(evil);
        setReputation(client, 80);
        evil.mint(client, 100 ether);
        evil.execute(address(evil), 0, abi.encodeCall(evil.approve, (address(channels), type(uint256).max)));
        IPaymentChannel.OpenPermit memory permit = permitOf(address(evil), SALT, LENGTH);
        IPaymentChannel.Terms memory t = termsOf(permit);
        ReentrantToken.Call[] memory calls = new ReentrantToken.Call[](1);
        calls[0] = ReentrantToken.Call(
            address(channels), abi.encodeCall(channels.close, (t, proof(t, 40), bytes32(0), noReceipt()))
        );
        evil.arm(calls);
        _openAs(evil, SALT);
        assertEq(uint256(channels.channelOf(t).status), uint256(IPaymentChannel.Status.CLOSED));
        _conserved(evil, t);
    }

    // ── helpers ──

    function _conserved(ReentrantToken evil, IPaymentChannel.Terms memory t) private view {
        IPaymentChannel.Channel memory c = channels.channelOf(t);
        uint256 remainder = c.status == IPaymentChannel.Status.OPEN ? uint256(c.length - c.settled) * t.permit.unit : 0;
        assertEq(
            evil.balanceOf(address(channels)), remainder + channels.creditOf(address(evil), address(evil)), "conserved"
        );
    }

    function _openAs(ReentrantToken evil, bytes32 salt) private returns (IPaymentChannel.Terms memory) {
        IPaymentChannel.OpenPermit memory permit = permitOf(address(evil), salt, LENGTH);
        evil.execute(address(channels), 0, abi.encodeCall(channels.open, (permit, salt, bank, signPermit(permit))));
        return termsOf(permit);
    }

    function _refused(address asset, bytes memory refusal) private {
        IPaymentChannel.OpenPermit memory permit = permitOf(asset, SALT, LENGTH);
        IPaymentChannel.Signature memory sigma0 = signPermit(permit);
        vm.expectRevert(refusal);
        vm.prank(client);
        channels.open(permit, SALT, bank, sigma0);
    }

    function _close(IPaymentChannel.Terms memory t, uint32 index) private {
        vm.prank(vendor);
        channels.close(t, proof(t, index), 0, noReceipt());
    }

    function _give(MintableToken asset, address who) private {
        asset.mint(who, 100 ether);
        vm.prank(who);
        asset.approve(address(channels), type(uint256).max);
    }
}
