// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {ChannelFixture} from "./ChannelFixture.sol";
import {ChannelHash} from "contracts/channel/ChannelHash.sol";
import {IPaymentChannel} from "contracts/channel/IPaymentChannel.sol";
import {PaymentChannel} from "contracts/channel/PaymentChannel.sol";

/// @notice Golden vectors that Rust, Python and Solidity read alike (`k256_and_solidity_and_python_vectors`). The contract
/// stands at the address and chain that the vectors sign for. Locks with the SHA3-512 profile are Rust's alone: no chain has
/// that hash.
contract VectorsTest is ChannelFixture {
    string private _json;

    struct Payment {
        uint32 index;
        bytes32 itemHash;
        uint128 cumulative;
        uint64 issuedAt;
        bytes32 transcript;
        bytes32 word;
        bytes32 r;
        bytes32 s;
    }

    function setUp() public override {
        super.setUp();
        _json = vm.readFile("tests/vectors/channel.json");
        vm.chainId(_uint(".chainId"));
        address fixed_ = _address(".verifyingContract");
        deployCodeTo("PaymentChannel.sol:PaymentChannel", fixed_);
        channels = PaymentChannel(fixed_);
        vm.warp(1_893_456_000 - 30 days); // the vectors live for years, a channel here for one at most
    }

    function test_vectors_DomainAndTypesAgree() external view {
        assertEq(channels.domainSeparator(), _word(".domainSeparator"));
        assertEq(ChannelHash.OPEN_PERMIT_TYPEHASH, keccak256(bytes(vm.parseJsonString(_json, ".types[0]"))));
        assertEq(ChannelHash.RECEIPT_TYPEHASH, keccak256(bytes(vm.parseJsonString(_json, ".types[1]"))));
    }

    function test_vectors_ChannelsAgree() external {
        uint256 count;
        for (; vm.keyExistsJson(_json, _channel(count)); ++count) {
            _compare(_channel(count));
        }
        assertEq(count, 2, "channels of the vectors");
    }

    /// The first channel as its parties would run it: opened by the client, all five payments closed with the last receipt.
    function test_vectors_FirstChannelRunsOnChain() external {
        string memory at_ = _channel(0);
        IPaymentChannel.OpenPermit memory permit = _permit(at_);
        address bank_ = vm.addr(_uint(string.concat(at_, ".bankKey")));
        IPaymentChannel.Signature memory sigma0 = _signature(string.concat(at_, ".sigma0"), permit, bank_);
        vm.startPrank(bank_);
        channels.setReputation(permit.client, permit.clientReputation);
        channels.setReputation(permit.vendor, permit.vendorReputation);
        vm.stopPrank();
        vm.deal(permit.client, 500);
        vm.prank(permit.client);
        channels.open{value: 500}(permit, _word(string.concat(at_, ".salt")), bank_, sigma0);

        IPaymentChannel.Terms memory t =
            IPaymentChannel.Terms(permit, bank_, tagOf(permit.channelId, 0, sigma0.r, sigma0.s));
        Payment memory p = _payment(at_, 2);
        IPaymentChannel.Proof memory proof_;
        (proof_.index, proof_.word) = (p.index, p.word);
        channels.checkpoint(t, proof_);
        p = _payment(at_, 4);
        (proof_.index, proof_.word) = (p.index, p.word);
        IPaymentChannel.Signature memory opener = IPaymentChannel.Signature(p.r, p.s, 27);
        bytes32 digest = channels.receiptDigest(_receipt(permit.channelId, p));
        if (ecrecover(digest, 27, p.r, p.s) != permit.receiptKey) opener.v = 28;
        vm.expectEmit(address(channels));
        emit IPaymentChannel.Closed(permit.channelId, 5, 200, 0, p.transcript);
        vm.expectEmit(address(channels));
        emit IPaymentChannel.ReceiptShown(permit.channelId, 5, digest);
        vm.prank(permit.vendor);
        channels.close(t, proof_, p.transcript, IPaymentChannel.LastReceipt(p.itemHash, p.issuedAt, opener));
        assertEq(channels.creditOf(NATIVE, permit.vendor), 500);
        assertEq(channels.reputationOf(bank_, permit.client), permit.clientReputation + 1);
    }

    // ── what is compared ──

    function _compare(string memory at_) private view {
        IPaymentChannel.OpenPermit memory permit = _permit(at_);
        bytes32 id = channels.channelIdOf(permit.client, permit.vendor, _word(string.concat(at_, ".salt")));
        assertEq(id, permit.channelId, at_);
        bytes32 digest = channels.permitDigest(permit);
        assertEq(digest, _word(string.concat(at_, ".permitDigest")), at_);
        (bytes32 r, bytes32 s) = _sigma(string.concat(at_, ".sigma0"));
        // RFC 6979 makes one signature of a key and a digest.
        IPaymentChannel.Signature memory sigma = sign(_uint(string.concat(at_, ".bankKey")), digest);
        assertEq(abi.encode(sigma.r, sigma.s), abi.encode(r, s), at_);

        bytes32 transcript = digest;
        bytes32 word = permit.anchor;
        for (uint256 i; i < permit.length; ++i) {
            Payment memory p = _payment(at_, i);
            string memory each = _paymentAt(at_, i);
            transcript = keccak256(abi.encode(transcript, p.itemHash));
            assertEq(transcript, p.transcript, each);
            assertEq(ChannelHash.walk(p.word, id, 1), word, each);
            assertEq(ChannelHash.walk(p.word, id, p.index), permit.anchor, each);
            word = p.word;
            _compareReceipt(at_, each, id, permit.receiptKey, p);
            assertEq(ChannelHash.tag(id, p.index, p.r, p.s), _word(string.concat(each, ".tag")), each);
            bytes memory lock = vm.parseJsonBytes(_json, string.concat(each, ".lock"));
            (bytes32 lockR, bytes32 lockS) = abi.decode(lock, (bytes32, bytes32));
            (bytes32 openR, bytes32 openS) = ChannelHash.open(lockR, lockS, p.r, p.s);
            assertEq(abi.encode(openR, openS), abi.encode(r, s), each);
            (r, s) = (p.r, p.s);
        }
        assertFalse(vm.keyExistsJson(_json, _paymentAt(at_, permit.length)), at_);
        (bytes32 openerR, bytes32 openerS) = _sigma(string.concat(at_, ".opener"));
        assertEq(abi.encode(openerR, openerS), abi.encode(r, s), "the opener is the last receipt's signature");
    }

    function _compareReceipt(string memory at_, string memory each, bytes32 id, address key, Payment memory p)
        private
        view
    {
        bytes32 digest = channels.receiptDigest(_receipt(id, p));
        assertEq(digest, _word(string.concat(each, ".digest")), each);
        IPaymentChannel.Signature memory sigma = sign(_uint(string.concat(at_, ".receiptKeySecret")), digest);
        assertEq(abi.encode(sigma.r, sigma.s), abi.encode(p.r, p.s), each);
        assertEq(ecrecover(digest, sigma.v, p.r, p.s), key, each);
    }

    // ── reading ──

    function _permit(string memory at_) private view returns (IPaymentChannel.OpenPermit memory) {
        return IPaymentChannel.OpenPermit({
            channelId: _word(string.concat(at_, ".channelId")),
            client: _address(string.concat(at_, ".client")),
            vendor: _address(string.concat(at_, ".vendor")),
            receiptKey: vm.addr(_uint(string.concat(at_, ".receiptKeySecret"))),
            asset: NATIVE,
            unit: uint128(_uint(string.concat(at_, ".unit"))),
            length: uint32(_uint(string.concat(at_, ".length"))),
            anchor: _word(string.concat(at_, ".anchor")),
            clientReputation: uint8(_uint(string.concat(at_, ".clientReputation"))),
            vendorReputation: uint8(_uint(string.concat(at_, ".vendorReputation"))),
            issuedAt: uint64(_uint(string.concat(at_, ".issuedAt"))),
            expiry: _expiry(at_)
        });
    }

    function _expiry(string memory at_) private view returns (uint64) {
        return uint64(_uint(string.concat(at_, ".expiry")));
    }

    function _payment(string memory at_, uint256 i) private view returns (Payment memory p) {
        string memory each = _paymentAt(at_, i);
        p.index = uint32(_uint(string.concat(each, ".index")));
        p.itemHash = _word(string.concat(each, ".itemHash"));
        p.cumulative = uint128(_uint(string.concat(each, ".cumulative")));
        p.issuedAt = uint64(_uint(string.concat(each, ".issuedAt")));
        p.transcript = _word(string.concat(each, ".transcript"));
        p.word = _word(string.concat(each, ".word"));
        (p.r, p.s) = _sigma(string.concat(each, ".sigma"));
    }

    function _receipt(bytes32 id, Payment memory p) private pure returns (IPaymentChannel.Receipt memory) {
        return IPaymentChannel.Receipt(id, p.index, p.itemHash, p.cumulative, p.issuedAt, p.transcript);
    }

    function _signature(string memory path, IPaymentChannel.OpenPermit memory permit, address signer)
        private
        view
        returns (IPaymentChannel.Signature memory s)
    {
        (s.r, s.s) = _sigma(path);
        s.v = ecrecover(channels.permitDigest(permit), 27, s.r, s.s) == signer ? 27 : 28;
    }

    function _sigma(string memory path) private view returns (bytes32 r, bytes32 s) {
        return abi.decode(vm.parseJsonBytes(_json, path), (bytes32, bytes32));
    }

    function _channel(uint256 i) private pure returns (string memory) {
        return string.concat(".channels[", vm.toString(i), "]");
    }

    function _paymentAt(string memory at_, uint256 i) private pure returns (string memory) {
        return string.concat(at_, ".payments[", vm.toString(i), "]");
    }

    function _uint(string memory path) private view returns (uint256) {
        return vm.parseJsonUint(_json, path);
    }

    function _word(string memory path) private view returns (bytes32) {
        return vm.parseJsonBytes32(_json, path);
    }

    function _address(string memory path) private view returns (address) {
        return vm.parseJsonAddress(_json, path);
    }
}
