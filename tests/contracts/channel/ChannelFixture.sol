// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {IPaymentChannel} from "contracts/channel/IPaymentChannel.sol";
import {PaymentChannel} from "contracts/channel/PaymentChannel.sol";
import {Test} from "forge-std/Test.sol";

/// @notice A plain OpenZeppelin token that anyone may mint.
contract Token is ERC20("Test Token", "TT") {
    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }
}

/// @notice What every channel test starts from: a contract, a token, a bank that admits a client and a vendor, a chain of
/// words; and helpers that open, sign and prove. Hashes are written a second time here, with the compiler's own encoding.
abstract contract ChannelFixture is Test {
    uint128 internal constant UNIT = 0.001 ether;
    uint32 internal constant LENGTH = 100;
    uint64 internal constant LIFE = 30 days;
    uint256 internal constant DEPOSIT = uint256(LENGTH) * UNIT;
    uint256 internal constant ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
    address internal constant NATIVE = address(0);
    bytes32 internal constant SALT = keccak256("salt");
    bytes32 internal constant SEED = keccak256("seed");

    PaymentChannel internal channels;
    Token internal token;
    address internal stranger = makeAddr("stranger");
    address internal client;
    uint256 internal clientKey;
    address internal vendor;
    uint256 internal vendorKey;
    address internal bank;
    uint256 internal bankKey;
    address internal receipts;
    uint256 internal receiptKey;

    function setUp() public virtual {
        vm.warp(1_800_000_000);
        // By name: `new` would compile the contract once more into every test file.
        channels = PaymentChannel(deployCode("PaymentChannel.sol:PaymentChannel"));
        token = new Token();
        (client, clientKey) = makeAddrAndKey("client");
        (vendor, vendorKey) = makeAddrAndKey("vendor");
        (bank, bankKey) = makeAddrAndKey("bank");
        (receipts, receiptKey) = makeAddrAndKey("receipt key");
        vm.deal(client, 1_000_000 ether);
        token.mint(client, 1_000_000 ether);
        vm.prank(client);
        token.approve(address(channels), type(uint256).max);
        setReputation(client, 80);
        setReputation(vendor, 90);
    }

    function setReputation(address customer, uint8 reputation) internal {
        vm.prank(bank);
        channels.setReputation(customer, reputation);
    }

    function reputationOf(address customer) internal view returns (uint8) {
        return channels.reputationOf(bank, customer);
    }

    // ── words ──

    /// @dev One step down the chain.
    function below(bytes32 word, bytes32 channelId) internal pure returns (bytes32) {
        return keccak256(abi.encode(word, channelId));
    }

    /// @dev `w_index` of the chain of `length` words over `seed`.
    function wordOf(bytes32 channelId, bytes32 seed, uint32 length, uint32 index) internal pure returns (bytes32 word) {
        word = seed;
        for (uint32 i = length; i > index; --i) {
            uint256 free;
            assembly ("memory-safe") {
                free := mload(0x40)
            }
            word = below(word, channelId);
            // Gives the memory back: a long chain would pay for it squared.
            assembly ("memory-safe") {
                mstore(0x40, free)
            }
        }
    }

    /// @dev `w_index` of the chain of these terms.
    function wordAt(IPaymentChannel.Terms memory terms, uint32 index) internal pure returns (bytes32) {
        return wordOf(terms.permit.channelId, SEED, terms.permit.length, index);
    }

    // ── opening ──

    function permitOf(address asset, bytes32 salt, uint32 length)
        internal
        view
        returns (IPaymentChannel.OpenPermit memory)
    {
        bytes32 channelId = channels.channelIdOf(client, vendor, salt);
        return IPaymentChannel.OpenPermit({
            channelId: channelId,
            client: client,
            vendor: vendor,
            receiptKey: receipts,
            asset: asset,
            unit: UNIT,
            length: length,
            anchor: wordOf(channelId, SEED, length, 0),
            clientReputation: reputationOf(client),
            vendorReputation: reputationOf(vendor),
            issuedAt: uint64(vm.getBlockTimestamp()),
            expiry: uint64(vm.getBlockTimestamp()) + LIFE
        });
    }

    function sign(uint256 key, bytes32 digest) internal pure returns (IPaymentChannel.Signature memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return IPaymentChannel.Signature(r, s, v);
    }

    function signPermit(IPaymentChannel.OpenPermit memory permit)
        internal
        view
        returns (IPaymentChannel.Signature memory)
    {
        return sign(bankKey, channels.permitDigest(permit));
    }

    function tagOf(bytes32 channelId, uint256 index, bytes32 r, bytes32 s) internal pure returns (bytes32) {
        return keccak256(abi.encode(channelId, index, r, s));
    }

    function termsOf(IPaymentChannel.OpenPermit memory permit) internal view returns (IPaymentChannel.Terms memory) {
        IPaymentChannel.Signature memory sigma0 = signPermit(permit);
        return IPaymentChannel.Terms(permit, bank, tagOf(permit.channelId, 0, sigma0.r, sigma0.s));
    }

    function fundsOf(IPaymentChannel.OpenPermit memory permit) internal pure returns (uint256) {
        return uint256(permit.length) * permit.unit;
    }

    function open(IPaymentChannel.OpenPermit memory permit, bytes32 salt)
        internal
        returns (IPaymentChannel.Terms memory terms)
    {
        IPaymentChannel.Signature memory sigma0 = signPermit(permit);
        vm.prank(permit.client);
        channels.open{value: permit.asset == NATIVE ? fundsOf(permit) : 0}(permit, salt, bank, sigma0);
        return termsOf(permit);
    }

    function openDefault(address asset) internal returns (IPaymentChannel.Terms memory) {
        return open(permitOf(asset, SALT, LENGTH), SALT);
    }

    /// @dev A permit that lengthens the channel of `terms`, with the chain over the same seed.
    function longer(IPaymentChannel.Terms memory terms, uint32 length)
        internal
        view
        returns (IPaymentChannel.OpenPermit memory permit)
    {
        permit = abi.decode(abi.encode(terms.permit), (IPaymentChannel.OpenPermit)); // a copy
        permit.length = length;
        permit.anchor = wordOf(permit.channelId, SEED, length, 0);
        permit.clientReputation = reputationOf(permit.client);
        permit.vendorReputation = reputationOf(permit.vendor);
        permit.issuedAt = uint64(vm.getBlockTimestamp());
    }

    /// @dev Tops up; `before` is the channel's length.
    function topUp(IPaymentChannel.Terms memory terms, IPaymentChannel.OpenPermit memory permit, uint32 before)
        internal
        returns (IPaymentChannel.Terms memory)
    {
        IPaymentChannel.Signature memory sigma0 = signPermit(permit);
        uint256 amount = uint256(permit.length - before) * permit.unit;
        vm.prank(permit.client);
        channels.topUp{value: permit.asset == NATIVE ? amount : 0}(terms, permit, sigma0);
        return termsOf(permit);
    }

    // ── proofs ──

    /// @dev A proof that walks down to the anchor.
    function proof(IPaymentChannel.Terms memory terms, uint32 index)
        internal
        pure
        returns (IPaymentChannel.Proof memory p)
    {
        p.index = index;
        p.word = wordAt(terms, index);
    }

    /// @dev A proof that walks down to the checkpoint that the receipt key signed for `signedIndex`.
    function proofFrom(IPaymentChannel.Terms memory terms, uint32 index, uint32 signedIndex)
        internal
        view
        returns (IPaymentChannel.Proof memory p)
    {
        p = proof(terms, index);
        p.signedIndex = signedIndex;
        p.signedWord = wordAt(terms, signedIndex);
        p.locksRoot = keccak256("locks");
        p.signature = sign(
            receiptKey,
            channels.checkpointDigest(
                IPaymentChannel.Checkpoint(terms.permit.channelId, signedIndex, p.signedWord, p.locksRoot)
            )
        );
    }

    /// @dev The proof of a close without a payment.
    function noProof() internal pure returns (IPaymentChannel.Proof memory p) {}

    // ── receipts ──

    function noReceipt() internal pure returns (IPaymentChannel.LastReceipt memory r) {}

    function receiptOf(IPaymentChannel.Terms memory terms, uint32 index, bytes32 transcript)
        internal
        view
        returns (IPaymentChannel.Receipt memory)
    {
        return IPaymentChannel.Receipt({
            channelId: terms.permit.channelId,
            index: index,
            itemHash: keccak256(abi.encode("item", index)),
            cumulative: uint128(uint256(index) * terms.permit.unit),
            issuedAt: uint64(vm.getBlockTimestamp()),
            transcript: transcript
        });
    }

    function lastReceipt(IPaymentChannel.Terms memory terms, uint32 index, bytes32 transcript)
        internal
        view
        returns (IPaymentChannel.LastReceipt memory)
    {
        IPaymentChannel.Receipt memory r = receiptOf(terms, index, transcript);
        return IPaymentChannel.LastReceipt(r.itemHash, r.issuedAt, sign(receiptKey, channels.receiptDigest(r)));
    }

    // ── closing together ──

    function signClose(uint256 key, bytes32 channelId, uint32 index)
        internal
        view
        returns (IPaymentChannel.Signature memory)
    {
        return sign(key, channels.cooperativeCloseDigest(IPaymentChannel.CooperativeClose(channelId, index)));
    }

    function closeTogether(IPaymentChannel.Terms memory terms, uint32 index) internal {
        IPaymentChannel.Signature memory ofClient = signClose(clientKey, terms.permit.channelId, index);
        IPaymentChannel.Signature memory ofVendor = signClose(vendorKey, terms.permit.channelId, index);
        vm.prank(vendor);
        channels.cooperativeClose(terms, index, ofClient, ofVendor);
    }
}
