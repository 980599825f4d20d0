// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {ChannelHandler} from "./ChannelHandler.sol";
import {ChannelWorld} from "./ChannelWorld.sol";
import {IPaymentChannel} from "contracts/channel/IPaymentChannel.sol";
import {Test} from "forge-std/Test.sol";

/// @notice The invariants of README.md over the books of {ChannelHandler}.
contract ChannelInvariantTest is Test {
    uint256 private constant STEPS = 14;
    ChannelHandler private handler;

    function setUp() external {
        handler = new ChannelHandler();
        handler.setUp();
        targetContract(address(handler));
        // By weight: what moves money comes up more often.
        bytes4[] memory steps = new bytes4[](20);
        for (uint256 i; i < steps.length; ++i) {
            steps[i] = _step(i);
        }
        targetSelector(FuzzSelector(address(handler), steps));
    }

    function invariant_H1_to_H8() external view {
        _check();
    }

    /// The same handler at the same weights, long enough that every step must have succeeded and been refused.
    function test_campaign_reaches_every_step() external {
        for (uint256 i; i < 1500; ++i) {
            uint256 seed = uint256(keccak256(abi.encode("campaign", i)));
            (bool ok, bytes memory data) =
                address(handler).call(abi.encodeWithSelector(_step(seed % 20), uint256(keccak256(abi.encode(seed)))));
            if (!ok) {
                assembly ("memory-safe") {
                    revert(add(data, 0x20), mload(data))
                }
            }
            if (i % 50 == 0) _check();
        }
        _check();
        for (uint256 step; step < STEPS; ++step) {
            uint256 did = handler.did(ChannelHandler.Step(step));
            uint256 refused = handler.refused(ChannelHandler.Step(step));
            string memory name = handler.stepName(step);
            emit log_named_string(name, string.concat(vm.toString(did), " done, ", vm.toString(refused), " refused"));
            assertGt(did, 0, name);
            assertGt(refused, 0, name);
        }
    }

    function _step(uint256 i) private pure returns (bytes4) {
        bytes4[20] memory steps = [
            ChannelHandler.open.selector,
            ChannelHandler.open.selector,
            ChannelHandler.open.selector,
            ChannelHandler.topUp.selector,
            ChannelHandler.topUp.selector,
            ChannelHandler.checkpoint.selector,
            ChannelHandler.checkpoint.selector,
            ChannelHandler.checkpoint.selector,
            ChannelHandler.close.selector,
            ChannelHandler.batchCheckpoint.selector,
            ChannelHandler.batchClose.selector,
            ChannelHandler.cooperativeClose.selector,
            ChannelHandler.refund.selector,
            ChannelHandler.refund.selector,
            ChannelHandler.proveBadLock.selector,
            ChannelHandler.proveDoubleReceipt.selector,
            ChannelHandler.setReputation.selector,
            ChannelHandler.withdrawCredit.selector,
            ChannelHandler.donate.selector,
            ChannelHandler.warp.selector
        ];
        return steps[i];
    }

    function _check() private view {
        for (uint256 a; a < 2; ++a) {
            _checkAsset(handler.assetAt(a));
        }
        for (uint256 i; i < handler.bookCount(); ++i) {
            _checkChannel(handler.bookAt(i));
        }
        address[] memory everyone = handler.everyoneIs();
        for (uint256 i; i < everyone.length; ++i) {
            (uint8 booked, uint8 recorded) = handler.reputationInBook(everyone[i]);
            assertLe(recorded, 100, "H7: reputation stays within 0 and 100");
            assertEq(recorded, booked, "H7: it moves by 1, 15 or 30 unless the bank sets it");
        }
        assertEq(handler.fell(), 0, "H2: nothing that is settled is taken back");
        assertEq(handler.movedWithoutAClose(), 0, "H4: a client's credit rises only when its channel closes");
        assertEq(handler.movedByProof(), 0, "H6: no lock, proof or reputation moves money");
        assertEq(handler.movedAfterTheEnd(), 0, "H8: a closed channel never changes");
    }

    function _checkAsset(address asset) private view {
        IPaymentChannel channels = handler.contractOf();
        uint256 sum = handler.donated(asset);
        uint256 paidOut;
        for (uint256 i; i < handler.bookCount(); ++i) {
            ChannelWorld.Book memory b = handler.bookAt(i);
            if (b.asset != asset) continue;
            IPaymentChannel.Channel memory c = channels.channelOf(b.chains[0]);
            if (c.status == IPaymentChannel.Status.OPEN) sum += uint256(c.length - c.settled) * b.unit;
            paidOut += b.paid + b.refunded;
        }
        uint256 credits;
        address[] memory everyone = handler.everyoneIs();
        for (uint256 i; i < everyone.length; ++i) {
            credits += channels.creditOf(asset, everyone[i]);
        }
        assertEq(handler.heldOf(asset), sum + credits, "H1: remainders and credits add up to what the contract holds");
        (uint256 in_, uint256 out) = handler.flowOf(asset);
        assertEq(credits + out, paidOut, "H3: credits are what channels paid");
        assertLe(paidOut, in_, "H3: no more is paid than came in");
    }

    function _checkChannel(ChannelWorld.Book memory b) private view {
        IPaymentChannel channels = handler.contractOf();
        for (uint256 k; k < b.chains.length; ++k) {
            IPaymentChannel.Channel memory c = channels.channelOf(b.chains[k]);
            assertEq(c.settled, b.settled, "H2: what is settled is the highest index proven");
            assertEq(c.length, b.length, "the length is that of the longest chain");
            assertEq(c.expiry, b.expiry, "the expiry is that of the newest chain");
            assertEq(uint256(c.status), uint256(b.status), "H8: status moves only along the diagram");
            assertEq(c.badLockProven, b.badLock, "H6");
            assertEq(c.doubleReceiptProven, b.doubleReceipt, "H6");
        }
        assertEq(b.paid, uint256(b.settled) * b.unit, "H3: a vendor gets exactly settled times unit");
        assertLe(b.paid, b.deposit, "H3: no channel pays out more than came in for it");
        if (b.status == IPaymentChannel.Status.CLOSED) {
            assertEq(b.paid + b.refunded, b.deposit, "H5: paid and refunded add up to the deposit");
        }
    }
}
