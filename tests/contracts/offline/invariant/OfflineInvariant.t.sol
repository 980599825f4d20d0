// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {OfflineHandler} from "./OfflineHandler.sol";
import {IOfflineVault} from "contracts/offline/IOfflineVault.sol";
import {Test} from "forge-std/Test.sol";

/// @notice The invariants of README.md over the books of {OfflineHandler}.
contract OfflineInvariantTest is Test {
    uint256 private constant STEPS = 12;
    uint256 private constant WEIGHTS = 18;
    OfflineHandler private handler;

    function setUp() external {
        handler = OfflineHandler(deployCode("OfflineHandler.sol:OfflineHandler"));
        handler.setUp();
        targetContract(address(handler));
        // By weight: what moves money comes up more often.
        bytes4[] memory steps = new bytes4[](WEIGHTS);
        for (uint256 i; i < steps.length; ++i) {
            steps[i] = _step(i);
        }
        targetSelector(FuzzSelector(address(handler), steps));
    }

    /// A step here makes signatures and paths, so a part of the usual runs; `make deep` takes more than a million steps.
    /// forge-config: default.invariant.runs = 32
    /// forge-config: deep.invariant.runs = 4000
    function invariant_V1_to_V6() external view {
        _check();
    }

    /// The same handler at the same weights, long enough that every step must have succeeded and been refused.
    function test_campaign_reaches_every_step() external {
        for (uint256 i; i < 700; ++i) {
            uint256 seed = uint256(keccak256(abi.encode("campaign", i)));
            (bool ok, bytes memory data) = address(handler)
                .call(abi.encodeWithSelector(_step(seed % WEIGHTS), uint256(keccak256(abi.encode(seed)))));
            if (!ok) {
                assembly ("memory-safe") {
                    revert(add(data, 0x20), mload(data))
                }
            }
            if (i % 50 == 0) _check();
        }
        _check();
        for (uint256 step; step < STEPS; ++step) {
            uint256 did = handler.did(OfflineHandler.Step(step));
            uint256 refused = handler.refused_(OfflineHandler.Step(step));
            emit log_named_string(
                vm.toString(step), string.concat(vm.toString(did), " done, ", vm.toString(refused), " refused")
            );
            assertGt(did, 0, vm.toString(step));
            // Deposits, payments, pledges and the clock have nothing to refuse.
            bool always = step < 2 || step == 8 || step == 11;
            if (!always) assertGt(refused, 0, vm.toString(step));
        }
    }

    function _step(uint256 i) private pure returns (bytes4) {
        bytes4[18] memory steps = [
            OfflineHandler.deposit.selector,
            OfflineHandler.deposit.selector,
            OfflineHandler.pay.selector,
            OfflineHandler.pay.selector,
            OfflineHandler.pay.selector,
            OfflineHandler.pay.selector,
            OfflineHandler.leave.selector,
            OfflineHandler.leave.selector,
            OfflineHandler.leaveMany.selector,
            OfflineHandler.leak.selector,
            OfflineHandler.leak.selector,
            OfflineHandler.replay.selector,
            OfflineHandler.record.selector,
            OfflineHandler.settle.selector,
            bytes4(keccak256("pledge(uint256)")),
            OfflineHandler.reclaim.selector,
            OfflineHandler.withdraw.selector,
            OfflineHandler.warp.selector
        ];
        return steps[i];
    }

    function _check() private view {
        assertEq(handler.overpaid(), 0, "V4: who has a leaked key gets no more than it held");
        IOfflineVault vault = handler.vaultIs();
        uint256[2] memory left;
        for (uint256 i; i < handler.bookCount(); ++i) {
            OfflineHandler.Book memory b = handler.bookAt(i);
            uint256 free = vault.coinOf(b.coin.id).left;
            assertLe(b.paid + b.reclaimed, b.coin.amount, "V2: no coin pays more than it has");
            assertEq(free + b.paid + b.reclaimed, b.coin.amount, "V2: free, paid and reclaimed are the coin");
            assertEq(handler.leavesOf(i), b.coin.amount, "V5: leaves sum to the deposit");
            left[b.coin.asset == address(0) ? 0 : 1] += free;
        }
        address[] memory owners = handler.ownersIs();
        for (uint256 a; a < 2; ++a) {
            address asset = handler.assetAt(a);
            uint256 sum = left[a] + handler.pledged(asset);
            for (uint256 w; w < owners.length; ++w) {
                sum += vault.creditOf(asset, owners[w]);
            }
            assertEq(handler.balanceOf(asset), sum, "V1: credits, free parts and collateral are what the vault holds");
        }
    }
}
