// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {PaymentChannel} from "contracts/channel/PaymentChannel.sol";
import {TicketEscrow} from "contracts/ticket/TicketEscrow.sol";
import {Script} from "forge-std/Script.sol";
import {console} from "forge-std/console.sol";

/// @notice Puts {TicketEscrow} and {PaymentChannel} where they are on every chain: through the usual CREATE2 factory, with no
/// salt and no constructor arguments, so that an address depends on the code alone. Leaves alone what already stands.
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

    function run() external returns (address escrows, address channels) {
        escrows = _deploy("TicketEscrow", type(TicketEscrow).creationCode);
        channels = _deploy("PaymentChannel", type(PaymentChannel).creationCode);
    }

    /// @notice Where the contracts are, or will be.
    function predicted() external pure returns (address escrows, address channels) {
        return (_predict(type(TicketEscrow).creationCode), _predict(type(PaymentChannel).creationCode));
    }

    function _deploy(string memory name, bytes memory creationCode) private returns (address deployed) {
        deployed = _predict(creationCode);
        if (deployed.code.length != 0) {
            console.log("%s is at %s already", name, deployed);
            return deployed;
        }
        require(FACTORY.code.length != 0, FactoryMissing(FACTORY));
        vm.broadcast();
        (bool ok,) = FACTORY.call(abi.encodePacked(SALT, creationCode));
        require(ok && deployed.code.length != 0, NotDeployed(deployed));
        console.log("%s is at %s", name, deployed);
    }

    function _predict(bytes memory creationCode) private pure returns (address) {
        return vm.computeCreate2Address(SALT, keccak256(creationCode), FACTORY);
    }
}
