// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {TicketEscrow} from "contracts/ticket/TicketEscrow.sol";
import {Script} from "forge-std/Script.sol";
import {console} from "forge-std/console.sol";

/// @notice Puts {TicketEscrow} where it is on every chain: through the usual CREATE2 factory, with no salt and no constructor
/// arguments, so that the address depends on the code alone. Does nothing where it already stands.
///
/// `forge script script/Deploy.s.sol --rpc-url URL --account NAME --broadcast`
contract Deploy is Script {
    /// @notice Arachnid's deterministic deployment proxy: calldata is the salt and the creation code.
    address public constant FACTORY = 0x4e59b44847b379578588920cA78FbF26c0B4956C;
    bytes32 public constant SALT = bytes32(0);

    /// @notice This chain lacks the factory; see github.com/Arachnid/deterministic-deployment-proxy.
    error FactoryMissing(address factory);
    /// @notice The factory did not put the contract where it belongs.
    error NotDeployed(address predicted);

    function run() external returns (address deployed) {
        deployed = predicted();
        if (deployed.code.length != 0) {
            console.log("TicketEscrow is at %s already", deployed);
            return deployed;
        }
        require(FACTORY.code.length != 0, FactoryMissing(FACTORY));
        vm.broadcast();
        (bool ok,) = FACTORY.call(abi.encodePacked(SALT, type(TicketEscrow).creationCode));
        require(ok && deployed.code.length != 0, NotDeployed(deployed));
        console.log("TicketEscrow is at %s", deployed);
    }

    /// @notice Where the contract is, or will be.
    function predicted() public pure returns (address) {
        return vm.computeCreate2Address(SALT, keccak256(type(TicketEscrow).creationCode), FACTORY);
    }
}
