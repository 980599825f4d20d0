// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

// Rule E2, "recovered ≠ 0". A malformed signature recovers the zero address. If that address could be an escrow, everyone
// could sign its tickets, and a client that forgets to fill in an escrow would fund it. (Found in review.)

import {AttackFixture} from "./AttackFixture.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";

contract ZeroEscrowTest is AttackFixture {
    function test_attack_zero_address_is_no_escrow() external {
        ITicketEscrow.Signature memory nothing;
        vm.prank(payer);
        vm.expectRevert(abi.encodeWithSelector(ITicketEscrow.WrongSigner.selector, address(0), address(0)));
        escrows.open{value: 1 ether}(address(0), terms(NATIVE), 1 ether, nothing);

        vm.expectRevert(
            abi.encodeWithSelector(
                ITicketEscrow.WrongStatus.selector, ITicketEscrow.Status.NONE, ITicketEscrow.Status.OPEN
            )
        );
        escrows.topUp{value: 1}(address(0), 1);
        assertEq(address(escrows).balance, 0);
    }
}
