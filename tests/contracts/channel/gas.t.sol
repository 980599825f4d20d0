// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {ChannelFixture} from "./ChannelFixture.sol";
import {ChannelHash} from "contracts/channel/ChannelHash.sol";
import {IPaymentChannel} from "contracts/channel/IPaymentChannel.sol";

/// @notice Gas of the steps as whole transactions, so that base cost, calldata and cold storage count. Only `forge test
/// --isolate` measures that: without it, these tests are skipped and leave the snapshot alone (`make gas` writes it).
/// Where the snapshot is compared (`FORGE_SNAPSHOT_CHECK=true`, `make test`) they fail instead of being skipped.
///
/// Unless its name says otherwise, a step is measured on a contract that has served others (its own balance is not zero)
/// and between parties that hold credit already (vendor and client were paid before): slots that hold something are
/// written for 5,000, new ones for 22,100. `*_new_credit` is the other case.
contract ChannelGasTest is ChannelFixture {
    string private constant FILE = "PaymentChannel";
    uint32 private constant LONG = 10_000;
    uint32 private constant BATCH = 50;
    uint256 private constant TRANSACTION = 21_000;
    bytes32 private constant TRANSCRIPT = keccak256("transcript");

    /// @dev What we promise; the snapshot holds what it is.
    uint256 private constant MOST_OPEN = 120_000;
    uint256 private constant MOST_CLOSE_64 = 75_000;
    uint256 private constant MOST_REFUND = 45_000;
    uint256 private constant MOST_CHECKPOINT = 60_000;
    uint256 private constant MOST_STEP = 80;
    uint256 private constant MOST_MARGINAL = 20_000;

    uint256 private _serial;

    error NotIsolated(uint256 gas, uint256 leastOfATransaction);

    function setUp() public override {
        super.setUp();
        vm.prank(vendor);
        channels.setOperator(stranger, false);
        uint256 gas = vm.lastCallGas().gasTotalUsed;
        if (gas >= TRANSACTION) return;
        require(!vm.envOr("FORGE_SNAPSHOT_CHECK", false), NotIsolated(gas, TRANSACTION));
        vm.skip(true, "gas is measured with --isolate: make gas");
    }

    function test_gas_native() external {
        _measure(NATIVE, "");
        _measureClosings();
        _measureBatches();
    }

    function test_gas_erc20() external {
        _measure(address(token), "_erc20");
    }

    function test_gas_walk() external {
        IPaymentChannel.Terms memory terms = _openLong(NATIVE);
        _giveCredit(NATIVE);
        uint256 near = _gasOfCheckpoint(terms, 64);
        uint256 far = _gasOfCheckpoint(_openLong(NATIVE), 4160);
        uint256 step = (far - near) / 4096;
        assertLe(step, MOST_STEP, "walk_per_step");
        vm.snapshotValue(FILE, "walk_per_step", step);
    }

    function test_gas_newCredit() external {
        // Nobody has been paid yet.
        IPaymentChannel.Terms memory terms = _openLong(NATIVE);
        _openLong(NATIVE);
        IPaymentChannel.Proof memory p = _proofFrom(terms, 704, 640);
        vm.prank(vendor);
        channels.close(terms, p, TRANSCRIPT, noReceipt());
        vm.snapshotGasLastCall(FILE, "close_64_new_credit");
    }

    function test_gas_refundNewCredit() external {
        IPaymentChannel.Terms memory terms = _openLong(NATIVE);
        _openLong(NATIVE);
        skip(LIFE + 1);
        vm.prank(client);
        channels.refund(terms);
        vm.snapshotGasLastCall(FILE, "refund_new_credit");
    }

    function _measure(address asset, string memory suffix) private {
        _openLong(asset); // others before
        _giveCredit(asset);

        IPaymentChannel.OpenPermit memory permit = _permit(asset);
        _fund(permit, keccak256(abi.encode(_serial)));
        assertLe(vm.snapshotGasLastCall(FILE, string.concat("open", suffix)), MOST_OPEN, "open");
        IPaymentChannel.Terms memory terms = termsOf(permit);

        // The 64 payments after a checkpoint that the receipt key signed.
        IPaymentChannel.Proof memory p = _proofFrom(terms, 704, 640);
        vm.prank(vendor);
        channels.checkpoint(terms, p);
        assertLe(vm.snapshotGasLastCall(FILE, string.concat("checkpoint", suffix)), MOST_CHECKPOINT, "checkpoint");

        // Within 64 words of a signed checkpoint, nothing settled before.
        terms = _openLong(asset);
        p = _proofFrom(terms, 704, 640);
        vm.prank(vendor);
        channels.close(terms, p, TRANSCRIPT, noReceipt());
        assertLe(vm.snapshotGasLastCall(FILE, string.concat("close_64", suffix)), MOST_CLOSE_64, "close_64");

        terms = _openLong(asset);
        skip(LIFE + 1);
        vm.prank(client);
        channels.refund(terms);
        assertLe(vm.snapshotGasLastCall(FILE, string.concat("refund", suffix)), MOST_REFUND, "refund");

        terms = _openLong(asset);
        permit = _longer(terms);
        IPaymentChannel.Signature memory sigma0 = signPermit(permit);
        vm.prank(client);
        channels.topUp{value: asset == NATIVE ? uint256(LONG) * UNIT : 0}(terms, permit, sigma0);
        vm.snapshotGasLastCall(FILE, string.concat("top_up", suffix));
    }

    function _measureClosings() private {
        // With the last receipt, which raises two reputations.
        IPaymentChannel.Terms memory terms = _openLong(NATIVE);
        IPaymentChannel.Proof memory p = _proofFrom(terms, 704, 640);
        IPaymentChannel.LastReceipt memory r = lastReceipt(terms, 704, TRANSCRIPT);
        vm.prank(vendor);
        channels.close(terms, p, TRANSCRIPT, r);
        vm.snapshotGasLastCall(FILE, "close_64_with_receipt"); // 16,600 more: two slots, a signature, an event, calldata

        // At what a checkpoint has settled: no word, no walk.
        terms = _openLong(NATIVE);
        p = _proofFrom(terms, 704, 640);
        channels.checkpoint(terms, p);
        vm.prank(vendor);
        channels.close(terms, _at(704), TRANSCRIPT, noReceipt());
        vm.snapshotGasLastCall(FILE, "close_settled");

        terms = _openLong(NATIVE);
        IPaymentChannel.Signature memory ofClient = signClose(clientKey, terms.permit.channelId, 704);
        IPaymentChannel.Signature memory ofVendor = signClose(vendorKey, terms.permit.channelId, 704);
        vm.prank(vendor);
        channels.cooperativeClose(terms, 704, ofClient, ofVendor);
        vm.snapshotGasLastCall(FILE, "cooperative_close");

        // 64 payments up from the anchor, without a signature: the first moves the anchor into a slot of its own.
        terms = _openLong(NATIVE);
        p = _proof(terms, 64);
        vm.prank(vendor);
        channels.checkpoint(terms, p);
        vm.snapshotGasLastCall(FILE, "checkpoint_from_anchor_first");
        p = _proof(terms, 128);
        vm.prank(vendor);
        channels.checkpoint(terms, p);
        vm.snapshotGasLastCall(FILE, "checkpoint_from_anchor_next");
    }

    function _measureBatches() private {
        // 50 channels of one client and one vendor, eight payments up from the anchor: what a further channel costs when
        // both credits are written once.
        _batch("batch_close_50_per_channel", 8, 0, false, MOST_MARGINAL);
        // The same with 64 words to walk; from the anchor, and from a signed checkpoint (which costs a signature more).
        _batch("batch_close_50_64_words_per_channel", 64, 0, false, type(uint256).max);
        _batch("batch_close_50_signed_64_words_per_channel", 128, 64, false, type(uint256).max);
        // 50 clients that hold credit: a slot of credit (5,000) more for each. The floor is about 19,000: calldata 6,400,
        // the channel's slot and the client's 5,000 each, the event 2,150, eight words 450.
        _batch("batch_close_50_clients_per_channel", 8, 0, true, type(uint256).max);
        _batchCheckpoint();
    }

    function _batchCheckpoint() private {
        IPaymentChannel.CheckpointItem[] memory one = new IPaymentChannel.CheckpointItem[](1);
        IPaymentChannel.CheckpointItem[] memory items = new IPaymentChannel.CheckpointItem[](BATCH);
        for (uint256 i; i <= BATCH; ++i) {
            IPaymentChannel.Terms memory t = _openLong(NATIVE);
            IPaymentChannel.CheckpointItem memory item = IPaymentChannel.CheckpointItem(t, _proofFrom(t, 72, 64));
            if (i == BATCH) one[0] = item;
            else items[i] = item;
        }
        channels.batchCheckpoint(one);
        uint256 single = vm.lastCallGas().gasTotalUsed;
        channels.batchCheckpoint(items);
        vm.snapshotValue(
            FILE, "batch_checkpoint_50_per_channel", (vm.lastCallGas().gasTotalUsed - single) / (BATCH - 1)
        );
    }

    /// @dev Marginal channel: a batch of 50 against a batch of one, divided by the 49 between them.
    function _batch(string memory name, uint32 index, uint32 signedIndex, bool clients, uint256 most) private {
        IPaymentChannel.CloseItem[] memory one = new IPaymentChannel.CloseItem[](1);
        IPaymentChannel.CloseItem[] memory items = new IPaymentChannel.CloseItem[](BATCH);
        one[0] = _item(index, signedIndex, clients);
        for (uint256 i; i < BATCH; ++i) {
            items[i] = _item(index, signedIndex, clients);
        }
        vm.prank(vendor);
        channels.batchClose(one);
        uint256 single = vm.lastCallGas().gasTotalUsed;
        vm.prank(vendor);
        channels.batchClose(items);
        uint256 marginal = (vm.lastCallGas().gasTotalUsed - single) / (BATCH - 1);
        assertLe(marginal, most, name);
        vm.snapshotValue(FILE, name, marginal);
    }

    function _item(uint32 index, uint32 signedIndex, bool clients)
        private
        returns (IPaymentChannel.CloseItem memory item)
    {
        (address before, uint256 key) = (client, clientKey);
        if (clients) {
            (client, clientKey) = makeAddrAndKey(string.concat("client ", vm.toString(_serial)));
            vm.deal(client, 100 ether);
            setReputation(client, 80);
            _giveCredit(NATIVE);
        }
        item.terms = _openLong(NATIVE);
        item.proof = signedIndex == 0 ? _proof(item.terms, index) : _proofFrom(item.terms, index, signedIndex);
        item.transcript = keccak256(abi.encode(TRANSCRIPT, _serial));
        (client, clientKey) = (before, key);
    }

    // ── long chains, quickly ──

    function _permit(address asset) private returns (IPaymentChannel.OpenPermit memory permit) {
        bytes32 salt = keccak256(abi.encode(++_serial));
        permit = permitOf(asset, salt, 1);
        permit.length = LONG;
        permit.anchor = ChannelHash.walk(SEED, permit.channelId, LONG);
    }

    function _fund(IPaymentChannel.OpenPermit memory permit, bytes32 salt) private {
        IPaymentChannel.Signature memory sigma0 = signPermit(permit);
        vm.prank(client);
        channels.open{value: permit.asset == NATIVE ? fundsOf(permit) : 0}(permit, salt, bank, sigma0);
    }

    function _openLong(address asset) private returns (IPaymentChannel.Terms memory) {
        IPaymentChannel.OpenPermit memory permit = _permit(asset);
        _fund(permit, keccak256(abi.encode(_serial)));
        return termsOf(permit);
    }

    function _longer(IPaymentChannel.Terms memory terms)
        private
        view
        returns (IPaymentChannel.OpenPermit memory permit)
    {
        permit = longer(terms, 1);
        permit.length = 2 * LONG;
        permit.anchor = ChannelHash.walk(SEED, permit.channelId, permit.length);
    }

    function _proof(IPaymentChannel.Terms memory terms, uint32 index)
        private
        pure
        returns (IPaymentChannel.Proof memory p)
    {
        p.index = index;
        p.word = ChannelHash.walk(SEED, terms.permit.channelId, LONG - index);
    }

    function _proofFrom(IPaymentChannel.Terms memory terms, uint32 index, uint32 signedIndex)
        private
        view
        returns (IPaymentChannel.Proof memory p)
    {
        p = _proof(terms, index);
        p.signedIndex = signedIndex;
        p.signedWord = ChannelHash.walk(SEED, terms.permit.channelId, LONG - signedIndex);
        p.signature = sign(
            receiptKey,
            channels.checkpointDigest(IPaymentChannel.Checkpoint(terms.permit.channelId, signedIndex, p.signedWord, 0))
        );
    }

    function _at(uint32 index) private pure returns (IPaymentChannel.Proof memory p) {
        p.index = index;
    }

    /// @dev Leaves both parties with credit.
    function _giveCredit(address asset) private {
        IPaymentChannel.Terms memory terms = _openLong(asset);
        closeTogether(terms, 1);
        // The contract's reputations are back where they were.
        setReputation(client, 80);
        setReputation(vendor, 90);
    }

    function _gasOfCheckpoint(IPaymentChannel.Terms memory terms, uint32 index) private returns (uint256) {
        IPaymentChannel.Proof memory p = _proof(terms, index);
        vm.prank(vendor);
        channels.checkpoint(terms, p);
        return vm.lastCallGas().gasTotalUsed;
    }
}
