// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {P256} from "@openzeppelin/contracts/utils/cryptography/P256.sol";
import {IOfflineVault} from "contracts/offline/IOfflineVault.sol";
import {Test} from "forge-std/Test.sol";

/// @notice A plain OpenZeppelin token that anyone may mint.
contract Token is ERC20("Test Token", "TT") {
    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }
}

/// @notice What every offline test starts from: a vault, a token, a registrar, wallets of both kinds with their owners; and
/// helpers that deposit, pay and exit as wallets do. Hashes, logs and certificates are written a second time here.
abstract contract OfflineFixture is Test {
    uint256 internal constant N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551;
    uint256 internal constant HALF_N = N / 2;
    address internal constant NATIVE = address(0);
    uint32 internal constant CLASS = 7;
    uint64 internal constant LIFE = 30 days;
    uint64 internal constant GRACE = 7 days;
    uint128 internal constant AMOUNT = 1000 gwei;
    bytes32 internal constant TRANSFER_TYPEHASH = keccak256(
        "Transfer(bytes32 input,bytes32 payee,uint128 amount,uint128 change,uint64 sequence,bytes32 previous,bytes32 invoice,uint64 issuedAt)"
    );

    /// @dev A wallet as its owner's device has it.
    struct Device {
        string name;
        uint256 secret;
        IOfflineVault.Key key;
        bytes32 id;
        address owner;
        bytes32 log; // 0: of the SIGNATURE kind
        bytes32 digest; // of its registration
        uint64 sequence; // of its last transfer
        bytes32 previous;
        bytes32 base;
        bytes entries; // since base
    }

    struct Coin {
        bytes32 id;
        bytes32 wallet;
        uint256 device;
        address asset;
        uint128 amount;
        uint256 nonce;
        uint64 settleBy;
    }

    /// @dev A path under way, and who may go on with what.
    struct Trip {
        IOfflineVault.Path path;
        bytes32 coin;
        bytes32 input;
        uint128 value;
        uint256 payer;
        bytes32 digest; // of the last hop
        IOfflineVault.Transfer last;
        uint256 evidenceAt; // in hops, of the last hop
    }

    IOfflineVault internal vault;
    Token internal token;
    address internal registrar;
    uint256 internal registrarKey;
    address internal depositor = makeAddr("depositor");
    address internal stranger = makeAddr("stranger");
    Device[] internal devices;
    uint64 internal validFor = 365 days;
    uint256 private _invoices;

    /// @dev The asset under test.
    address internal asset;
    // Wallets: five of the SIGNATURE kind, two of the LOG kind.
    uint256 internal constant A = 0;
    uint256 internal constant B = 1;
    uint256 internal constant C = 2;
    uint256 internal constant D = 3;
    uint256 internal constant E = 4;
    uint256 internal constant T = 5;
    uint256 internal constant U = 6;

    function setUp() public virtual {
        vm.warp(1_800_000_000);
        // By name: `new` would compile the contract once more into every test file.
        vault = IOfflineVault(deployCode("OfflineVault.sol:OfflineVault"));
        token = new Token();
        (registrar, registrarKey) = makeAddrAndKey("registrar");
        vm.deal(depositor, 1_000_000 ether);
        token.mint(depositor, 1_000_000 ether);
        vm.prank(depositor);
        token.approve(address(vault), type(uint256).max);
        for (uint256 i; i < 7; ++i) {
            addDevice(string.concat("wallet ", vm.toString(i)), i > 4);
            register(i);
        }
    }

    /// @dev Runs the test with the native asset, and again from the start with a plain OpenZeppelin token.
    modifier eachAsset() {
        uint256 start = vm.snapshotState();
        for (uint256 i; i < 2; ++i) {
            if (i == 1) vm.revertToState(start);
            asset = i == 0 ? NATIVE : address(token);
            emit log_named_address("asset", asset);
            _;
        }
    }

    // ── devices ──

    function addDevice(string memory name, bool logged) internal returns (uint256 index) {
        index = devices.length;
        Device storage d = devices.push();
        d.name = name;
        d.secret = uint256(keccak256(bytes(name))) % (N - 1) + 1;
        (uint256 x, uint256 y) = vm.publicKeyP256(d.secret);
        d.key = IOfflineVault.Key(bytes32(x), bytes32(y));
        d.id = keccak256(abi.encode(x, y));
        d.owner = makeAddr(string.concat("owner of ", name));
        if (logged) d.log = keccak256(nameOf(name));
    }

    /// @dev A TPM name: 000b and a SHA-256.
    function nameOf(string memory name) internal pure returns (bytes memory) {
        return abi.encodePacked(hex"000b", sha256(bytes(name)));
    }

    function registrationOf(uint256 w) internal view returns (IOfflineVault.Registration memory) {
        Device storage d = devices[w];
        return IOfflineVault.Registration(d.id, d.owner, CLASS, d.log, uint64(vm.getBlockTimestamp() + validFor));
    }

    function vouch(IOfflineVault.Registration memory r)
        internal
        view
        returns (IOfflineVault.RegistrarSignature memory)
    {
        (uint8 v, bytes32 r_, bytes32 s) = vm.sign(registrarKey, vault.registrationDigest(r));
        return IOfflineVault.RegistrarSignature(r_, s, v);
    }

    function register(uint256 w) internal {
        IOfflineVault.Registration memory r = registrationOf(w);
        Device storage d = devices[w];
        d.digest = vault.registrationDigest(r);
        d.previous = d.digest;
        d.base = sha256(abi.encodePacked(bytes32(0), sha256(abi.encodePacked(d.digest))));
        IOfflineVault.RegistrarSignature memory vouched = vouch(r);
        IOfflineVault.Signature memory possession = sign(w, d.digest);
        vm.prank(d.owner);
        vault.register(r, d.key, registrar, vouched, possession);
    }

    /// @dev ES256 over a digest.
    function sign(uint256 w, bytes32 digest) internal view returns (IOfflineVault.Signature memory) {
        return signHash(devices[w].secret, sha256(abi.encodePacked(digest)));
    }

    function signHash(uint256 secret, bytes32 hash) internal pure returns (IOfflineVault.Signature memory) {
        (bytes32 r, bytes32 s) = vm.signP256(secret, hash);
        return IOfflineVault.Signature(r, uint256(s) > HALF_N ? bytes32(N - uint256(s)) : s);
    }

    // ── coins ──

    function depositOf(uint256 w, uint128 amount) internal returns (Coin memory) {
        return depositFor(w, amount, LIFE);
    }

    function depositFor(uint256 w, uint128 amount, uint64 life) internal returns (Coin memory coin) {
        coin.wallet = devices[w].id;
        (coin.device, coin.asset, coin.amount, coin.nonce) = (w, asset, amount, vault.depositNonce());
        coin.settleBy = uint64(vm.getBlockTimestamp()) + life;
        vm.prank(depositor);
        coin.id = vault.deposit{value: asset == NATIVE ? amount : 0}(coin.wallet, asset, amount, coin.settleBy);
    }

    function begin(Coin memory coin) internal view returns (Trip memory t) {
        IOfflineVault.Key memory key = devices[coin.device].key;
        t.path = IOfflineVault.Path(coin.asset, coin.amount, coin.nonce, 0, abi.encodePacked(key.x, key.y));
        (t.coin, t.input, t.value, t.payer) = (coin.id, coin.id, coin.amount, coin.device);
    }

    // ── hops ──

    function transferDigest(IOfflineVault.Transfer memory t) internal view returns (bytes32) {
        return
            keccak256(abi.encodePacked(hex"1901", vault.domainSeparator(), keccak256(abi.encode(TRANSFER_TYPEHASH, t))));
    }

    /// @dev Pays `amount` to `payee`, who has the next hop.
    function pay(Trip memory t, uint256 payee, uint128 amount) internal returns (Trip memory) {
        return _pay(t, payee, amount, false);
    }

    /// @dev Pays `amount` to `payee`; the path follows the change.
    function change(Trip memory t, uint256 payee, uint128 amount) internal returns (Trip memory) {
        return _pay(t, payee, amount, true);
    }

    /// @dev One payment, and the paths to both its parts: the payee's, and the payer's change.
    function bothParts(Trip memory t, uint256 payee, uint128 amount)
        internal
        returns (Trip memory paid, Trip memory kept)
    {
        Device memory image = devices[t.payer];
        paid = _pay(t, payee, amount, false);
        devices[t.payer] = image;
        --_invoices; // the same invoice: the same transfer
        kept = _pay(t, payee, amount, true);
        assertEq(paid.digest, kept.digest);
    }

    function _pay(Trip memory before, uint256 payee, uint128 amount, bool keeps) private returns (Trip memory t) {
        t = copy(before);
        _issue(t, devices[payee].id, amount, keccak256(abi.encode("invoice", ++_invoices)));
        bytes memory evidence = evidenceOf(t.payer, t.last.input, t.digest);
        t.path.hops = bytes.concat(
            t.path.hops,
            head(t.last, tagOf(t.payer) + (keeps ? 4 : 0)),
            abi.encodePacked(amount, t.last.invoice),
            keeps ? abi.encodePacked(devices[payee].id) : abi.encodePacked(devices[payee].key.x, devices[payee].key.y)
        );
        t.evidenceAt = t.path.hops.length;
        t.path.hops = bytes.concat(t.path.hops, evidence);
        t.input = keccak256(abi.encode(t.digest, keeps ? 1 : 0));
        t.value = keeps ? t.last.change : amount;
        if (!keeps) t.payer = payee;
    }

    /// @dev Leaves: the last hop of a path that is redeemed.
    function exit(Trip memory before) internal returns (Trip memory t) {
        t = copy(before);
        _issue(t, devices[t.payer].id, t.value, 0);
        bytes memory evidence = evidenceOf(t.payer, t.last.input, t.digest);
        t.path.hops = bytes.concat(t.path.hops, head(t.last, tagOf(t.payer) + 8));
        t.evidenceAt = t.path.hops.length;
        t.path.hops = bytes.concat(t.path.hops, evidence);
    }

    function _issue(Trip memory t, bytes32 payee, uint128 amount, bytes32 invoice) private {
        Device storage d = devices[t.payer];
        t.last = IOfflineVault.Transfer({
            input: t.input,
            payee: payee,
            amount: amount,
            change: amount < t.value ? t.value - amount : 0,
            sequence: ++d.sequence,
            previous: d.previous,
            invoice: invoice,
            issuedAt: uint64(vm.getBlockTimestamp())
        });
        t.digest = transferDigest(t.last);
        d.previous = t.digest;
        if (d.log != 0) d.entries = bytes.concat(d.entries, t.input, t.digest);
    }

    /// @dev What every hop starts with.
    function head(IOfflineVault.Transfer memory t, uint256 tag) internal pure returns (bytes memory) {
        return abi.encodePacked(uint8(tag), t.sequence, t.previous, t.issuedAt);
    }

    function tagOf(uint256 w) internal view returns (uint256) {
        return devices[w].log != 0 ? 2 : 1;
    }

    /// @dev The evidence that the wallet's kind has for a transfer, the last of its log.
    function evidenceOf(uint256 w, bytes32, bytes32 digest) internal view returns (bytes memory) {
        if (devices[w].log == 0) {
            IOfflineVault.Signature memory s = sign(w, digest);
            return abi.encodePacked(s.r, s.s);
        }
        return logEvidence(w, devices[w].base, devices[w].entries);
    }

    // ── logs ──

    function fold(bytes32 base, bytes memory entries) internal pure returns (bytes32 at) {
        at = base;
        for (uint256 i; i < entries.length; i += 64) {
            (bytes32 input, bytes32 digest) = (wordAt(entries, i), wordAt(entries, i + 32));
            at = sha256(abi.encodePacked(at, sha256(abi.encodePacked(input, digest))));
        }
    }

    function wordAt(bytes memory data, uint256 at) internal pure returns (bytes32 word) {
        assembly ("memory-safe") {
            word := mload(add(add(data, 0x20), at))
        }
    }

    /// @dev What a TPM says when it certifies the index.
    function certificateOf(uint256 w, bytes32 digest, bytes32 at) internal view returns (bytes memory) {
        return bytes.concat(
            abi.encodePacked(hex"ff5443478014", hex"0022", hex"000b", sha256("the wallet key's name")),
            abi.encodePacked(hex"0020", sha256(abi.encodePacked(digest))),
            abi.encodePacked(uint64(123_456), uint32(7), uint32(3), uint8(1), uint64(0x20191023)),
            abi.encodePacked(hex"0022", nameOf(devices[w].name), hex"0000", hex"0020", at)
        );
    }

    function stretchOf(uint256 w, bytes32 base, bytes memory entries)
        internal
        view
        returns (IOfflineVault.Stretch memory s)
    {
        s.entries = entries;
        s.certificate = certificateOf(w, wordAt(entries, entries.length - 32), fold(base, entries));
        s.signature = signHash(devices[w].secret, sha256(s.certificate));
    }

    function logEvidence(uint256 w, bytes32 base, bytes memory entries) internal view returns (bytes memory) {
        IOfflineVault.Stretch memory s = stretchOf(w, base, entries);
        return bytes.concat(
            abi.encodePacked(base, uint16(entries.length / 64)),
            entries,
            s.certificate,
            abi.encodePacked(s.signature.r, s.signature.s)
        );
    }

    /// @dev Settles the whole log of a wallet, whose device then starts from there.
    function settleLog(uint256 w) internal {
        Device storage d = devices[w];
        IOfflineVault.Stretch memory s = stretchOf(w, d.base, d.entries);
        vault.settleLog(d.key, s);
        d.base = fold(d.base, d.entries);
        d.entries = "";
    }

    // ── copies, clones ──

    /// @dev A path is a value here: two may go on from one.
    function copy(Trip memory t) internal pure returns (Trip memory) {
        return abi.decode(abi.encode(t), (Trip));
    }

    /// @dev What an attacker keeps of a device to restore it later.
    function imageOf(uint256 w) internal view returns (Device memory) {
        return devices[w];
    }

    function restore(uint256 w, Device memory image) internal {
        devices[w] = image;
    }

    // ── what came out ──

    function creditOf(uint256 w) internal view returns (uint256) {
        return vault.creditOf(asset, devices[w].owner);
    }

    function leftOf(Coin memory coin) internal view returns (uint256) {
        return vault.coinOf(coin.id).left;
    }

    function equivocate(uint256 w, IOfflineVault.Transfer memory one, IOfflineVault.Transfer memory other) internal {
        IOfflineVault.Signature memory a = sign(w, transferDigest(one));
        IOfflineVault.Signature memory b = sign(w, transferDigest(other));
        vault.proveEquivocation(devices[w].key, one, a, other, b);
    }

    function pledge(uint256 w, uint256 amount) internal {
        vm.prank(depositor);
        vault.addCollateral{value: asset == NATIVE ? amount : 0}(devices[w].id, asset, amount);
    }

    /// @dev A call of its own, so that what is being built never ends up between a `prank` or `expectRevert` and its call.
    function refusedFor(IOfflineVault.Path memory path, bytes4 reason, bytes32 got, bytes32 limit) internal {
        vm.expectRevert(abi.encodeWithSelector(reason, got, limit));
        vault.redeem(path);
    }

    function refused(IOfflineVault.Path memory path, bytes4 reason, uint256 got, uint256 limit) internal {
        refusedFor(path, reason, bytes32(got), bytes32(limit));
    }
}
