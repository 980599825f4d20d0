// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {ReentrantPayee, RefusingPayee} from "../mocks/HostilePayees.sol";
import {
    BlocklistToken,
    FalseReturnToken,
    FeeOnTransferToken,
    LyingToken,
    MintableToken,
    NoReturnToken,
    ReentrantToken,
    ShrinkingToken,
    TaxedSenderToken
} from "../mocks/HostileTokens.sol";
import {LedgerHarness} from "../mocks/LedgerHarness.sol";
import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {ILedger} from "contracts/shared/ILedger.sol";
import {stdError} from "forge-std/StdError.sol";
import {Test} from "forge-std/Test.sol";

/// @notice A plain OpenZeppelin token.
contract PlainToken is MintableToken {}

contract LedgerTest is Test {
    address private constant NATIVE = address(0);
    LedgerHarness private ledger;
    PlainToken private token;
    address private alice = makeAddr("alice");
    address private bob = makeAddr("bob");

    function setUp() external {
        ledger = new LedgerHarness();
        token = new PlainToken();
        vm.deal(alice, type(uint128).max);
    }

    // ── deposit ──

    function testFuzz_deposit_NativeCountsTheValue(uint128 amount) external {
        vm.prank(alice);
        assertEq(ledger.deposit{value: amount}(NATIVE, amount), amount);
        assertEq(ledger.creditOf(NATIVE, alice), amount);
        assertEq(address(ledger).balance, amount);
    }

    function testFuzz_deposit_RevertWhen_NativeValueIsNotTheAmount(uint128 value, uint128 amount) external {
        vm.assume(value != amount);
        vm.expectRevert(abi.encodeWithSelector(ILedger.WrongValue.selector, value, amount));
        vm.prank(alice);
        ledger.deposit{value: value}(NATIVE, amount);
    }

    function testFuzz_deposit_TokenCountsWhatArrives(uint256 amount) external {
        _give(token, alice, amount);
        vm.prank(alice);
        assertEq(ledger.deposit(address(token), amount), amount);
        assertEq(ledger.creditOf(address(token), alice), amount);
        assertEq(token.balanceOf(address(ledger)), amount);
    }

    function testFuzz_deposit_RevertWhen_ValueIsSentWithAToken(uint128 value) external {
        value = uint128(bound(value, 1, type(uint128).max));
        _give(token, alice, value);
        vm.expectRevert(abi.encodeWithSelector(ILedger.WrongValue.selector, value, 0));
        vm.prank(alice);
        ledger.deposit{value: value}(address(token), value);
    }

    function testFuzz_deposit_FeeOnTransferCountsWhatArrives(uint256 amount) external {
        amount = bound(amount, 0, type(uint256).max / 100);
        FeeOnTransferToken fee = new FeeOnTransferToken();
        _give(fee, alice, amount);
        vm.prank(alice);
        uint256 received = ledger.deposit(address(fee), amount);
        assertEq(received, amount - amount / 100);
        assertEq(ledger.creditOf(address(fee), alice), fee.balanceOf(address(ledger)));
    }

    function test_deposit_NoReturnValuePasses() external {
        NoReturnToken silent = new NoReturnToken();
        _give(silent, alice, 100);
        vm.prank(alice);
        assertEq(ledger.deposit(address(silent), 100), 100);
    }

    function test_deposit_ALiesWorthIsNothing() external {
        LyingToken liar = new LyingToken();
        _give(liar, alice, 100);
        vm.prank(alice);
        assertEq(ledger.deposit(address(liar), 100), 0);
        assertEq(ledger.creditOf(address(liar), alice), 0);
    }

    function test_deposit_RevertWhen_TokenReturnsFalse() external {
        FalseReturnToken failing = new FalseReturnToken();
        _give(failing, alice, 100);
        failing.setFailing(true);
        vm.expectRevert(abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, address(failing)));
        vm.prank(alice);
        ledger.deposit(address(failing), 100);
    }

    function test_deposit_RevertWhen_TokenShrinksTheBalance() external {
        ShrinkingToken shrinking = new ShrinkingToken();
        shrinking.mint(address(ledger), 100);
        vm.expectRevert(stdError.arithmeticError);
        vm.prank(alice);
        ledger.deposit(address(shrinking), 1);
    }

    function test_deposit_RevertWhen_AssetHasNoCode() external {
        vm.expectRevert(bytes(""));
        vm.prank(alice);
        ledger.deposit(bob, 1);
    }

    function test_deposit_RevertWhen_NotApproved() external {
        token.mint(alice, 1);
        vm.expectRevert(abi.encodeWithSelector(IERC20Errors.ERC20InsufficientAllowance.selector, address(ledger), 0, 1));
        vm.prank(alice);
        ledger.deposit(address(token), 1);
    }

    /// A transfer that deposits again from within would count the inner transfer twice.
    function test_deposit_RevertWhen_Reentered() external {
        ReentrantToken reentrant = new ReentrantToken();
        _give(reentrant, alice, 100);
        _give(reentrant, address(reentrant), 100);
        ReentrantToken.Call[] memory calls = new ReentrantToken.Call[](2);
        calls[0] = ReentrantToken.Call(address(ledger), abi.encodeCall(ledger.deposit, (address(reentrant), 10)));
        calls[1] = ReentrantToken.Call(
            address(ledger), abi.encodeCall(ledger.withdrawCredit, (address(reentrant), address(reentrant), 0))
        );
        reentrant.arm(calls);
        vm.prank(alice);
        assertEq(ledger.deposit(address(reentrant), 100), 100);
        _barred(reentrant, 4);
        assertEq(ledger.creditOf(address(reentrant), address(reentrant)), 0);
        assertEq(reentrant.balanceOf(address(ledger)), 100);
    }

    // ── credit ──

    function testFuzz_credit_AddsUpPerAssetAndAccount(uint128 a, uint128 b) external {
        ledger.credit(NATIVE, alice, a);
        ledger.credit(NATIVE, alice, b);
        ledger.credit(address(token), alice, b);
        ledger.credit(NATIVE, bob, a);
        assertEq(ledger.creditOf(NATIVE, alice), uint256(a) + b);
        assertEq(ledger.creditOf(address(token), alice), b);
        assertEq(ledger.creditOf(NATIVE, bob), a);
        assertEq(ledger.creditOf(address(token), bob), 0);
    }

    function test_credit_BurnAddressIsTheWellKnownOne() external view {
        assertEq(ledger.burnAddress(), 0x000000000000000000000000000000000000dEaD);
    }

    // ── withdraw ──

    function testFuzz_withdrawCredit_PaysAnyDestination(uint128 deposit, uint128 amount, bool native) external {
        amount = uint128(bound(amount, 0, deposit));
        address asset = native ? NATIVE : address(token);
        _deposit(asset, alice, deposit);

        vm.expectEmit(address(ledger));
        emit ILedger.CreditWithdrawn(asset, alice, bob, amount);
        vm.prank(alice);
        ledger.withdrawCredit(asset, bob, amount);

        assertEq(ledger.creditOf(asset, alice), deposit - amount);
        assertEq(native ? bob.balance : token.balanceOf(bob), amount);
        assertEq(native ? address(ledger).balance : token.balanceOf(address(ledger)), deposit - amount);
    }

    function testFuzz_withdrawCredit_RevertWhen_CreditTooLow(uint128 deposit, uint256 amount, bool native) external {
        amount = bound(amount, uint256(deposit) + 1, type(uint256).max);
        address asset = native ? NATIVE : address(token);
        _deposit(asset, alice, deposit);
        _deposit(asset, bob, type(uint64).max); // money of others is there
        vm.expectRevert(abi.encodeWithSelector(ILedger.CreditTooLow.selector, amount, deposit));
        vm.prank(alice);
        ledger.withdrawCredit(asset, alice, amount);
    }

    function test_withdrawCredit_RevertWhen_CreditIsOfAnotherAsset() external {
        _deposit(NATIVE, alice, 100);
        vm.expectRevert(abi.encodeWithSelector(ILedger.CreditTooLow.selector, 100, 0));
        vm.prank(alice);
        ledger.withdrawCredit(address(token), alice, 100);
    }

    function test_withdrawCredit_RevertWhen_DestinationIsZeroOrTheContract() external {
        _deposit(NATIVE, alice, 100);
        address[2] memory bad = [address(0), address(ledger)];
        for (uint256 i; i < bad.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(ILedger.BadDestination.selector, bad[i]));
            vm.prank(alice);
            ledger.withdrawCredit(NATIVE, bad[i], 100);
        }
    }

    /// A payee that refuses keeps its credit and collects it elsewhere.
    function test_withdrawCredit_RevertWhen_PayeeRefusesNative() external {
        RefusingPayee payee = new RefusingPayee();
        _deposit(NATIVE, alice, 100);
        ledger.credit(NATIVE, address(payee), 100);
        vm.expectRevert(abi.encodeWithSelector(ILedger.NativeTransferFailed.selector, address(payee), 100));
        payee.withdraw(ledger, address(payee), 100);
        assertEq(ledger.creditOf(NATIVE, address(payee)), 100);
        payee.withdraw(ledger, bob, 100);
        assertEq(bob.balance, 100);
    }

    function test_withdrawCredit_RevertWhen_TokenBlocksThePayee() external {
        BlocklistToken blocking = new BlocklistToken();
        _depositToken(blocking, alice, 100);
        blocking.setBlocked(alice, true);
        vm.startPrank(alice);
        vm.expectRevert(abi.encodeWithSelector(BlocklistToken.Blocked.selector, alice));
        ledger.withdrawCredit(address(blocking), alice, 100);
        assertEq(ledger.creditOf(address(blocking), alice), 100);
        ledger.withdrawCredit(address(blocking), bob, 100);
        vm.stopPrank();
        assertEq(blocking.balanceOf(bob), 100);
    }

    function test_withdrawCredit_RevertWhen_TokenReturnsFalse() external {
        FalseReturnToken failing = new FalseReturnToken();
        _depositToken(failing, alice, 100);
        failing.setFailing(true);
        vm.expectRevert(abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, address(failing)));
        vm.prank(alice);
        ledger.withdrawCredit(address(failing), alice, 100);
        assertEq(ledger.creditOf(address(failing), alice), 100);
    }

    function test_withdrawCredit_NoReturnValuePasses() external {
        NoReturnToken silent = new NoReturnToken();
        _depositToken(silent, alice, 100);
        vm.prank(alice);
        ledger.withdrawCredit(address(silent), bob, 100);
        assertEq(silent.balanceOf(bob), 100);
    }

    function test_withdrawCredit_FeeOnTransferTakesTheAmountFromTheLedger() external {
        FeeOnTransferToken fee = new FeeOnTransferToken();
        _depositToken(fee, alice, 1000);
        vm.prank(alice);
        ledger.withdrawCredit(address(fee), bob, 990);
        assertEq(fee.balanceOf(bob), 990 - 9);
        assertEq(fee.balanceOf(address(ledger)), 0);
    }

    /// The assumption for safety, broken: a fee on top of an outgoing transfer is paid by that token's other accounts. Other
    /// assets are untouched.
    function test_withdrawCredit_TaxOnTheSenderHarmsThatTokenAlone() external {
        TaxedSenderToken taxed = new TaxedSenderToken();
        _deposit(NATIVE, alice, 100);
        _deposit(address(token), alice, 100);
        taxed.mint(address(ledger), 2000);
        ledger.credit(address(taxed), alice, 1000);
        ledger.credit(address(taxed), bob, 1000);
        vm.prank(alice);
        ledger.withdrawCredit(address(taxed), alice, 1000);
        vm.prank(bob);
        vm.expectRevert();
        ledger.withdrawCredit(address(taxed), bob, 1000);

        vm.startPrank(alice);
        ledger.withdrawCredit(NATIVE, alice, 100);
        ledger.withdrawCredit(address(token), alice, 100);
        vm.stopPrank();
        assertEq(address(ledger).balance, 0);
        assertEq(token.balanceOf(address(ledger)), 0);
    }

    function test_withdrawCredit_ReentrantPayeeIsPaidOnce() external {
        ReentrantPayee payee = new ReentrantPayee(ledger);
        _deposit(NATIVE, alice, 100);
        ledger.credit(NATIVE, address(payee), 50);
        payee.withdraw(25);
        assertEq(payee.answer(), abi.encodePacked(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector));
        assertEq(address(payee).balance, 25);
        assertEq(ledger.creditOf(NATIVE, address(payee)), 25);
    }

    function test_withdrawCredit_ReentrantTokenIsBarred() external {
        ReentrantToken reentrant = new ReentrantToken();
        _depositToken(reentrant, alice, 100);
        ledger.credit(address(reentrant), address(reentrant), 50);
        ReentrantToken.Call[] memory calls = new ReentrantToken.Call[](2);
        calls[0] = ReentrantToken.Call(
            address(ledger), abi.encodeCall(ledger.withdrawCredit, (address(reentrant), address(reentrant), 50))
        );
        calls[1] = ReentrantToken.Call(address(ledger), abi.encodeCall(ledger.deposit, (address(reentrant), 0)));
        reentrant.arm(calls);
        vm.prank(alice);
        ledger.withdrawCredit(address(reentrant), alice, 50);
        _barred(reentrant, 4);
        assertEq(ledger.creditOf(address(reentrant), address(reentrant)), 50);
        assertEq(reentrant.balanceOf(address(ledger)), 50);
    }

    /// The guard is of the call, not of the transaction: the next one passes.
    function test_withdrawCredit_TwiceInOneTransaction() external {
        _deposit(NATIVE, alice, 100);
        vm.startPrank(alice);
        ledger.withdrawCredit(NATIVE, bob, 50);
        ledger.withdrawCredit(NATIVE, bob, 50);
        vm.stopPrank();
        assertEq(bob.balance, 100);
    }

    // ── helpers ──

    function _barred(ReentrantToken reentrant, uint256 tried) private view {
        (bool[] memory ok, bytes[] memory data) = reentrant.answers();
        assertEq(ok.length, tried);
        for (uint256 i; i < ok.length; ++i) {
            assertFalse(ok[i]);
            assertEq(data[i], abi.encodePacked(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector));
        }
    }

    function _give(MintableToken asset, address who, uint256 amount) private {
        asset.mint(who, amount);
        vm.prank(who);
        ERC20(asset).approve(address(ledger), type(uint256).max);
    }

    function _depositToken(MintableToken asset, address who, uint256 amount) private {
        _give(asset, who, amount);
        vm.prank(who);
        ledger.deposit(address(asset), amount);
    }

    function _deposit(address asset, address who, uint256 amount) private {
        if (asset != NATIVE) return _depositToken(token, who, amount);
        vm.deal(who, who.balance + amount);
        vm.prank(who);
        ledger.deposit{value: amount}(NATIVE, amount);
    }
}
