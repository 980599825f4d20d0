// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {OfflineFixture} from "./OfflineFixture.sol";
import {IOfflineVault} from "contracts/offline/IOfflineVault.sol";
import {OfflineHash} from "contracts/offline/OfflineHash.sol";

/// @notice Golden vectors that Rust and Solidity read alike. The vault stands at the address and chain that they sign for.
contract VectorsTest is OfflineFixture {
    string private _json;

    function setUp() public override {
        super.setUp();
        _json = vm.readFile("tests/vectors/offline.json");
        vm.chainId(vm.parseJsonUint(_json, ".chainId"));
        address fixed_ = vm.parseJsonAddress(_json, ".verifyingContract");
        deployCodeTo("OfflineVault.sol:OfflineVault", fixed_);
        vault = IOfflineVault(fixed_);
    }

    function test_vectors_DomainAndTypesAgree() external view {
        assertEq(vault.domainSeparator(), _word(".domainSeparator"));
        assertEq(OfflineHash.REGISTRATION_TYPEHASH, keccak256(bytes(vm.parseJsonString(_json, ".types[0]"))));
        assertEq(OfflineHash.INVOICE_TYPEHASH, keccak256(bytes(vm.parseJsonString(_json, ".types[1]"))));
        assertEq(OfflineHash.TRANSFER_TYPEHASH, keccak256(bytes(vm.parseJsonString(_json, ".types[2]"))));
    }

    function test_vectors_CoinAgrees() external view {
        bytes32 coin = vault.coinIdOf(
            _word(".wallets.A.walletId"),
            vm.parseJsonAddress(_json, ".asset"),
            uint128(vm.parseJsonUint(_json, ".coinAmount")),
            vm.parseJsonUint(_json, ".depositNonce")
        );
        assertEq(coin, _word(".coinId"));
    }

    /// Of the registrations, class, log and end are not in the file: only keys and ids are compared, and the signature.
    function test_vectors_WalletsAgree() external view {
        string[4] memory names = ["A", "B", "C", "D"];
        for (uint256 i; i < 4; ++i) {
            string memory w = string.concat(".wallets.", names[i]);
            (uint256 x, uint256 y) = vm.publicKeyP256(uint256(_word(string.concat(w, ".secret"))));
            assertEq(bytes32(x), _word(string.concat(w, ".x")));
            assertEq(bytes32(y), _word(string.concat(w, ".y")));
            IOfflineVault.Key memory key = IOfflineVault.Key(bytes32(x), bytes32(y));
            assertEq(vault.walletIdOf(key), _word(string.concat(w, ".walletId")));
        }
    }

    function test_vectors_TransfersAgree() external view {
        uint256 count;
        for (; vm.keyExistsJson(_json, _transfer(count)); ++count) {
            _compare(_transfer(count));
        }
        assertEq(count, 4, "transfers of the vectors");
    }

    /// The head of A's log, entry by entry.
    function test_vectors_LogAgrees() external view {
        bytes32 at = this.firstHead(_word(".wallets.A.registrationDigest"));
        assertEq(at, _word(".logOfA[0].head"));
        for (uint256 i = 1; i < 3; ++i) {
            string memory path = string.concat(".logOfA[", vm.toString(i), "]");
            bytes memory entry = vm.parseJsonBytes(_json, string.concat(path, ".entry"));
            (at,) = this.foldOf(at, entry, 0);
            assertEq(at, _word(string.concat(path, ".head")));
        }
    }

    // ── assembly against Solidity ──

    /// forge-config: default.fuzz.runs = 256
    function testFuzz_hash_TransferIsAsTheCompilerHasIt(bytes32 domain, IOfflineVault.Transfer memory t) external pure {
        bytes32 hash = keccak256(abi.encode(OfflineHash.TRANSFER_TYPEHASH, t));
        assertEq(OfflineHash.transfer(domain, t), keccak256(abi.encodePacked(hex"1901", domain, hash)));
    }

    /// forge-config: default.fuzz.runs = 128
    function testFuzz_hash_FoldIsAsTheCompilerHasIt(bytes32 base, bytes32[8] memory words, uint256 count)
        external
        view
    {
        count = bound(count, 0, 4);
        bytes memory entries;
        for (uint256 i; i < count; ++i) {
            entries = bytes.concat(entries, words[2 * i], words[2 * i + 1]);
        }
        for (uint256 i; i < count; ++i) {
            (bytes32 at, uint256 first) = this.foldOf(base, entries, words[2 * i]);
            assertEq(at, fold(base, entries));
            assertEq(first, i);
        }
        (, uint256 none) = this.foldOf(base, entries, keccak256("none"));
        assertEq(none, count);
        // Of two with one input the first is named.
        (, uint256 twice) = this.foldOf(base, bytes.concat(entries, words[0], words[1]), words[0]);
        assertEq(twice, 0);
    }

    /// forge-config: default.fuzz.runs = 128
    function testFuzz_hash_PairsAndShaAreAsTheCompilerHasThem(bytes32 a, bytes32 b, uint160 paid) external view {
        assertEq(OfflineHash.wallet(a, b), keccak256(abi.encode(a, b)));
        assertEq(OfflineHash.fragment(a, 1), keccak256(abi.encode(a, uint256(1))));
        assertEq(vault.fragmentIdOf(a, 1), keccak256(abi.encode(a, uint256(1))));
        assertEq(OfflineHash.accumulate(paid, b), uint160(uint256(keccak256(abi.encode(paid, b)))));
        assertEq(OfflineHash.sha(a), sha256(abi.encodePacked(a)));
    }

    function test_views_DigestsAreEip712() external view {
        IOfflineVault.Registration memory r = IOfflineVault.Registration("wallet", registrar, 7, "log", 9);
        assertEq(
            vault.registrationDigest(r),
            _digest(
                abi.encode(
                    keccak256("Registration(bytes32 wallet,address owner,uint32 class,bytes32 log,uint64 validUntil)"),
                    r
                )
            )
        );
        IOfflineVault.DepositReceipt memory d = IOfflineVault.DepositReceipt("coin", "wallet", registrar, 7, 9);
        assertEq(
            vault.depositReceiptDigest(d),
            _digest(
                abi.encode(
                    keccak256(
                        "DepositReceipt(bytes32 coin,bytes32 wallet,address asset,uint128 amount,uint64 settleBy)"
                    ),
                    d
                )
            )
        );
        IOfflineVault.Acceptance memory a = IOfflineVault.Acceptance("transfer", "payee", 7);
        assertEq(
            vault.acceptanceDigest(a),
            _digest(abi.encode(keccak256("Acceptance(bytes32 transfer,bytes32 payee,uint64 issuedAt)"), a))
        );
    }

    /// After a fork of the chain the domain is another one (rule E1).
    function test_views_TheDomainFollowsTheChain() external {
        bytes32 before = vault.domainSeparator();
        vm.chainId(1);
        assertNotEq(vault.domainSeparator(), before);
    }

    function foldOf(bytes32 base, bytes calldata entries, bytes32 input) external view returns (bytes32, uint256) {
        return OfflineHash.fold(base, entries, input);
    }

    function firstHead(bytes32 digest) external view returns (bytes32) {
        return OfflineHash.firstHead(digest);
    }

    // ── helpers ──

    function _compare(string memory t) private view {
        string memory payee = string.concat(".wallets.", vm.parseJsonString(_json, string.concat(t, ".payee")));
        string memory payer = string.concat(".wallets.", vm.parseJsonString(_json, string.concat(t, ".payer")));
        IOfflineVault.Invoice memory invoice = IOfflineVault.Invoice({
            payee: _word(string.concat(payee, ".walletId")),
            asset: vm.parseJsonAddress(_json, ".asset"),
            amount: uint128(vm.parseJsonUint(_json, string.concat(t, ".amount"))),
            nonce: _word(string.concat(t, ".invoiceNonce")),
            issuedAt: uint64(vm.parseJsonUint(_json, string.concat(t, ".invoiceIssuedAt")))
        });
        assertEq(vault.invoiceDigest(invoice), _word(string.concat(t, ".invoice")));
        IOfflineVault.Transfer memory transfer = IOfflineVault.Transfer({
            input: _word(string.concat(t, ".input")),
            payee: invoice.payee,
            amount: invoice.amount,
            change: uint128(vm.parseJsonUint(_json, string.concat(t, ".change"))),
            sequence: uint64(vm.parseJsonUint(_json, string.concat(t, ".sequence"))),
            previous: _word(string.concat(t, ".previous")),
            invoice: _word(string.concat(t, ".invoice")),
            issuedAt: uint64(vm.parseJsonUint(_json, string.concat(t, ".issuedAt")))
        });
        bytes32 digest = vault.transferDigest(transfer);
        assertEq(digest, _word(string.concat(t, ".digest")));
        assertEq(vault.fragmentIdOf(digest, 0), _word(string.concat(t, ".payeeFragment")));
        assertEq(vault.fragmentIdOf(digest, 1), _word(string.concat(t, ".changeFragment")));
        bytes memory signature = vm.parseJsonBytes(_json, string.concat(t, ".signature"));
        IOfflineVault.Signature memory mine =
            signHash(uint256(_word(string.concat(payer, ".secret"))), sha256(abi.encodePacked(digest)));
        assertEq(signature, abi.encodePacked(mine.r, mine.s));
    }

    function _digest(bytes memory encoded) private view returns (bytes32) {
        return keccak256(abi.encodePacked(hex"1901", vault.domainSeparator(), keccak256(encoded)));
    }

    function _transfer(uint256 i) private pure returns (string memory) {
        return string.concat(".transfers[", vm.toString(i), "]");
    }

    function _word(string memory path) private view returns (bytes32) {
        return vm.parseJsonBytes32(_json, path);
    }
}
