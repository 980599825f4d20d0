// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {ChannelFixture} from "../ChannelFixture.sol";
import {IPaymentChannel} from "contracts/channel/IPaymentChannel.sol";

/// @notice People, assets and chains of the campaign, and the rules of the channel written a second time, from the page.
abstract contract ChannelWorld is ChannelFixture {
    uint256 internal constant CHANNELS = 6;
    uint32 internal constant CHAIN = 12;
    uint64 internal constant WEEK = 7 days;

    /// @dev A channel as an observer keeps it.
    struct Book {
        IPaymentChannel.Terms[] chains; // the opening's first
        bytes32 salt;
        address client;
        address vendor;
        address asset;
        uint256 unit;
        uint32 length;
        uint32 settled;
        uint64 expiry;
        IPaymentChannel.Status status;
        uint256 deposit;
        uint256 paid;
        uint256 refunded;
        bool badLock;
        bool doubleReceipt;
    }

    address[2] internal clients;
    uint256[2] internal clientKeys;
    address[2] internal vendors;
    uint256[2] internal vendorKeys;
    address[2] internal assets;
    address internal operator = makeAddr("operator");
    address[] internal everyone;

    Book[] internal books; // all that were ever opened
    uint256[CHANNELS] internal current; // index into `books`, plus 1
    mapping(address customer => uint8) internal reputation;

    function setUp() public virtual override {
        super.setUp();
        assets = [NATIVE, address(token)];
        for (uint256 i; i < 2; ++i) {
            (clients[i], clientKeys[i]) = makeAddrAndKey(string.concat("client ", vm.toString(i)));
            (vendors[i], vendorKeys[i]) = makeAddrAndKey(string.concat("vendor ", vm.toString(i)));
            vm.deal(clients[i], 1000 ether);
            token.mint(clients[i], 1000 ether);
            vm.prank(clients[i]);
            token.approve(address(channels), type(uint256).max);
            for (uint256 j; j < 2; ++j) {
                address customer = j == 0 ? clients[i] : vendors[i];
                everyone.push(customer);
                setReputation(customer, 90);
                reputation[customer] = 90;
            }
        }
        everyone.push(operator);
        everyone.push(stranger);
        vm.deal(stranger, 1000 ether);
        token.mint(stranger, 1000 ether);
        vm.prank(vendors[1]);
        channels.setOperator(operator, true);
    }

    /// @dev An independent choice in [0, n) for each salt.
    function pick(uint256 seed, string memory salt, uint256 n) internal pure returns (uint256) {
        return uint256(keccak256(abi.encode(seed, salt))) % n;
    }

    function nowAt() internal view returns (uint64) {
        return uint64(vm.getBlockTimestamp());
    }

    function keyOf(address who) internal view returns (uint256) {
        for (uint256 i; i < 2; ++i) {
            if (clients[i] == who) return clientKeys[i];
            if (vendors[i] == who) return vendorKeys[i];
        }
        revert("nobody's key");
    }

    // ── the rules, a second time ──

    /// @dev The selector a checkpoint must revert with; 0 if it must be paid. `chain` is the terms it names.
    function refusalOfCheckpoint(Book storage b, uint256 chain, IPaymentChannel.Proof memory p, bool honest)
        internal
        view
        returns (bytes4)
    {
        if (b.status != IPaymentChannel.Status.OPEN) return IPaymentChannel.WrongStatus.selector;
        if (nowAt() > b.expiry) return IPaymentChannel.TooLate.selector;
        if (p.index <= b.settled) return IPaymentChannel.IndexNotAboveSettled.selector;
        return refusalOfProof(b, chain, p, honest);
    }

    function refusalOfClose(
        Book storage b,
        uint256 chain,
        IPaymentChannel.Proof memory p,
        bool honest,
        address caller,
        bytes4 notOperator
    ) internal view returns (bytes4) {
        if (caller != b.vendor && !(caller == operator && b.vendor == vendors[1])) return notOperator;
        if (b.status != IPaymentChannel.Status.OPEN) return IPaymentChannel.WrongStatus.selector;
        if (nowAt() > b.expiry) return IPaymentChannel.TooLate.selector;
        if (p.index <= b.settled) return 0;
        return refusalOfProof(b, chain, p, honest);
    }

    function refusalOfProof(Book storage b, uint256 chain, IPaymentChannel.Proof memory p, bool honest)
        internal
        view
        returns (bytes4)
    {
        if (p.index > b.chains[chain].permit.length) return IPaymentChannel.IndexAboveLength.selector;
        if (!honest) {
            return p.signature.v == 29 ? IPaymentChannel.WrongSigner.selector : IPaymentChannel.WordNotInChain.selector;
        }
        return 0;
    }
}
