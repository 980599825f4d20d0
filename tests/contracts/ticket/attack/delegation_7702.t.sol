// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

// Rule E3. The paper's escrow key is a bare key and stays one. On an EVM chain since EIP-7702 a key can grow code after it
// has signed; a contract that checks signatures through OpenZeppelin's SignatureChecker then asks that code (ERC-1271), and
// the payer voids every ticket it has issued by saying no. We recover the raw key, whatever code its address has.

import {AttackFixture} from "./AttackFixture.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {ITicketEscrow} from "contracts/ticket/ITicketEscrow.sol";

/// @notice Disowns every signature.
contract DenyAll {
    function isValidSignature(bytes32, bytes calldata) external pure returns (bytes4) {
        return 0xffffffff;
    }

    receive() external payable {}
}

contract Delegation7702Test is AttackFixture {
    function test_attack_7702_delegation_does_not_void_tickets() external {
        openDefault(NATIVE);
        ITicketEscrow.Ticket memory t = ticket(escrow, merchant, r1, 1, true);
        bytes32 digest = escrows.ticketDigest(t);
        ITicketEscrow.Winner memory w = signed(escrowKey, t);
        bytes memory signature = abi.encodePacked(w.signature.r, w.signature.s, w.signature.v);
        assertTrue(SignatureChecker.isValidSignatureNow(escrow, digest, signature));

        vm.signAndAttachDelegation(address(new DenyAll()), escrowKey);
        vm.prank(payer);
        (bool sent,) = escrow.call{value: 1}(""); // the transaction that carries the delegation
        assertTrue(sent);
        assertGt(escrow.code.length, 0);
        assertFalse(SignatureChecker.isValidSignatureNow(escrow, digest, signature), "voided after the fact");

        vm.prank(merchant);
        escrows.claim(merchant, escrow, r1, w);
        assertEq(creditOf(merchant), PRIZE);
        assertEq(escrows.escrowOf(escrow).balance, BALANCE - PRIZE);
    }

    /// @dev Nor does code at the payer's or the merchant's address change what they may do.
    function test_attack_7702_code_at_payer_and_merchant_changes_nothing() external {
        openDefault(NATIVE);
        (address codedMerchant, uint256 merchantKey) = makeAddrAndKey("merchant with code");
        vm.signAndAttachDelegation(address(new DenyAll()), merchantKey);
        vm.prank(payer);
        (bool sent,) = codedMerchant.call{value: 1}("");
        assertTrue(sent);
        claimAs(codedMerchant, r1, 1);
        vm.prank(codedMerchant);
        escrows.withdrawCredit(NATIVE, codedMerchant, PRIZE);
        assertEq(codedMerchant.balance, PRIZE + 1);
    }
}
