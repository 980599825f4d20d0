// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {OfflineFixture} from "../OfflineFixture.sol";
import {IOfflineVault} from "contracts/offline/IOfflineVault.sol";

/// @notice What a log's owner may write into it.
contract LogAttackTest is OfflineFixture {
    /// An entry of an input and no transfer. A payee takes the input for spent, and so did the contract, until the log was
    /// settled: then the later transfer counted. (`an_entry_without_a_transfer_spends_its_input` is the payee's side.)
    function test_attack_an_entry_without_a_transfer_spends_its_input_settled_or_not() external eachAsset {
        Coin memory coin = depositOf(T, AMOUNT);
        devices[T].entries = bytes.concat(coin.id, bytes32(0));
        Trip memory paid = pay(begin(coin), A, AMOUNT);
        bytes32 digest = paid.digest;
        Trip memory t = exit(paid);
        refusedFor(t.path, IOfflineVault.InputSpent.selector, 0, digest);
        settleLog(T);
        bytes32 nothing = vault.spentBy(devices[T].id, coin.id);
        assertNotEq(nothing, digest);
        refusedFor(t.path, IOfflineVault.InputSpent.selector, nothing, digest);
        vm.expectRevert(abi.encodeWithSelector(IOfflineVault.InputSpent.selector, nothing, digest));
        vault.record(paid.path);
    }
}
