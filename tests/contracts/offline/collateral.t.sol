// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {OfflineFixture} from "./OfflineFixture.sol";
import {IOfflineVault} from "contracts/offline/IOfflineVault.sol";

/// @notice {addCollateral} and {releaseCollateral}. What it is for: compensate.t.sol and attack/collateral.t.sol.
contract CollateralTest is OfflineFixture {
    function test_collateral_GoesBackToTheOwnerAtTheEnd() external eachAsset {
        pledge(A, 100);
        pledge(A, 11);
        bytes32 id = devices[A].id;
        assertEq(vault.collateralOf(id, asset), 111);
        uint256 last = vault.walletOf(id).validUntil + vault.COLLATERAL_DELAY();
        assertEq(vault.COLLATERAL_DELAY(), 104 days + 10 minutes);
        vm.warp(last);
        vm.startPrank(devices[A].owner);
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.TooEarly.selector, last, last));
        vault.releaseCollateral(id, asset);
        vm.warp(last + 1);
        vm.expectEmit(address(vault));
        emit IOfflineVault.CollateralReleased(id, asset, 111);
        vault.releaseCollateral(id, asset);
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.NothingLeft.selector, id));
        vault.releaseCollateral(id, asset);
        vm.stopPrank();
        assertEq(creditOf(A), 111);
    }

    function test_collateral_RevertWhen_CallerIsNotTheOwner() external {
        pledge(A, 100);
        vm.warp(vm.getBlockTimestamp() + 1000 days);
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.NotOwner.selector, stranger, devices[A].owner));
        vm.prank(stranger);
        vault.releaseCollateral(devices[A].id, NATIVE);
    }

    function test_collateral_RevertWhen_NoWalletOrNothing() external {
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.NotRegistered.selector, bytes32("nobody"), 0));
        vault.addCollateral("nobody", NATIVE, 0);
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.AmountOutOfRange.selector, 0, 1, type(uint104).max));
        vault.addCollateral(devices[A].id, NATIVE, 0);
    }

    function test_collateral_RevertWhen_ItIsTooMuch() external {
        uint256 most = type(uint104).max;
        vm.deal(depositor, 2 * most);
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.AmountOutOfRange.selector, most + 1, 1, most));
        pledgeOf(A, most + 1);
        pledge(A, most);
        assertEq(vault.collateralOf(devices[A].id, NATIVE), most);
    }

    function pledgeOf(uint256 w, uint256 amount) private {
        bytes32 id = devices[w].id;
        vm.prank(depositor);
        vault.addCollateral{value: amount}(id, NATIVE, amount);
    }
}
