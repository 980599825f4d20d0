// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {Deploy} from "../../../script/Deploy.s.sol";
import {IPaymentChannel} from "contracts/channel/IPaymentChannel.sol";
import {PaymentChannel} from "contracts/channel/PaymentChannel.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";
import {TicketEscrow} from "contracts/ticket/TicketEscrow.sol";
import {Test} from "forge-std/Test.sol";

contract DeployTest is Test {
    /// @dev Runtime code of the factory as it is on every chain; the same bytes as in its repository.
    bytes private constant FACTORY_CODE =
        hex"7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe03601600081602082378035828234f58015156039578182fd5b8082525050506014600cf3";
    Deploy private script;

    function setUp() external {
        script = new Deploy();
        vm.etch(script.FACTORY(), FACTORY_CODE);
    }

    function test_run_DeploysAtThePredictedAddresses() external {
        (address escrows, address channels) = script.predicted();
        assertEq(escrows.code.length, 0);
        assertEq(channels.code.length, 0);
        (address first, address second) = script.run();
        assertEq(first, escrows);
        assertEq(second, channels);
        assertEq(escrows.code, _expectedCode("TicketEscrow.sol:TicketEscrow", escrows), "with its own immutables");
        assertEq(channels.code, _expectedCode("PaymentChannel.sol:PaymentChannel", channels), "with its own immutables");
        assertEq(ITicketEscrow(escrows).WITHDRAW_DELAY(), 3 days);
        assertEq(IPaymentChannel(channels).MAX_LENGTH(), 1 << 20);
    }

    function test_run_TwiceDoesNothing() external {
        (address escrows, address channels) = script.run();
        uint64 nonce = vm.getNonce(script.FACTORY());
        (address first, address second) = script.run();
        assertEq(first, escrows);
        assertEq(second, channels);
        assertEq(vm.getNonce(script.FACTORY()), nonce, "no second creation");
    }

    /// What stands is left alone, what is missing comes beside it.
    function test_run_AddsWhatIsMissing() external {
        (address escrows, address channels) = script.predicted();
        deployCodeTo("TicketEscrow.sol:TicketEscrow", escrows);
        uint64 nonce = vm.getNonce(script.FACTORY());
        script.run();
        assertGt(channels.code.length, 0);
        assertEq(vm.getNonce(script.FACTORY()), nonce + 1, "one creation");
    }

    /// The same addresses on every chain, from every account.
    function test_predicted_DependsOnTheCodeAlone() external {
        (address escrows, address channels) = script.predicted();
        vm.chainId(1);
        vm.prank(makeAddr("somebody"));
        (address first, address second) = new Deploy().predicted();
        assertEq(first, escrows);
        assertEq(second, channels);
        assertEq(escrows, _create2(keccak256(type(TicketEscrow).creationCode)));
        assertEq(channels, _create2(keccak256(type(PaymentChannel).creationCode)));
    }

    function test_run_RevertWhen_FactoryMissing() external {
        address factory = script.FACTORY();
        vm.etch(factory, "");
        vm.expectRevert(abi.encodeWithSelector(Deploy.FactoryMissing.selector, factory));
        script.run();
    }

    function test_run_RevertWhen_FactoryDeploysNothing() external {
        address factory = script.FACTORY();
        vm.etch(factory, hex"00");
        (address escrows,) = script.predicted();
        vm.expectRevert(abi.encodeWithSelector(Deploy.NotDeployed.selector, escrows));
        script.run();
    }

    function _create2(bytes32 codeHash) private view returns (address) {
        return
            address(uint160(uint256(keccak256(abi.encodePacked(bytes1(0xff), script.FACTORY(), bytes32(0), codeHash)))));
    }

    function _expectedCode(string memory artifact, address at_) private returns (bytes memory code) {
        uint256 before = vm.snapshotState();
        deployCodeTo(artifact, at_);
        code = at_.code;
        vm.revertToState(before);
    }
}
