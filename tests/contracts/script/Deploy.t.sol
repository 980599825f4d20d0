// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {Deploy} from "../../../script/Deploy.s.sol";
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

    function test_run_DeploysAtThePredictedAddress() external {
        address predicted = script.predicted();
        assertEq(predicted.code.length, 0);
        assertEq(script.run(), predicted);
        assertEq(predicted.code, _expectedCode(predicted), "the contract, with the immutables of this address");
        assertEq(ITicketEscrow(predicted).WITHDRAW_DELAY(), 3 days);
    }

    function test_run_TwiceDoesNothing() external {
        address first = script.run();
        uint64 nonce = vm.getNonce(script.FACTORY());
        assertEq(script.run(), first);
        assertEq(vm.getNonce(script.FACTORY()), nonce, "no second creation");
    }

    /// The same address on every chain, from every account.
    function test_predicted_DependsOnTheCodeAlone() external {
        address here = script.predicted();
        vm.chainId(1);
        vm.prank(makeAddr("somebody"));
        assertEq(new Deploy().predicted(), here);
        assertEq(
            here,
            address(
                uint160(
                    uint256(
                        keccak256(
                            abi.encodePacked(
                                bytes1(0xff), script.FACTORY(), bytes32(0), keccak256(type(TicketEscrow).creationCode)
                            )
                        )
                    )
                )
            )
        );
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
        vm.expectRevert(abi.encodeWithSelector(Deploy.NotDeployed.selector, script.predicted()));
        script.run();
    }

    function _expectedCode(address at) private returns (bytes memory code) {
        uint256 before = vm.snapshotState();
        deployCodeTo("TicketEscrow.sol:TicketEscrow", at);
        code = at.code;
        vm.revertToState(before);
    }
}
