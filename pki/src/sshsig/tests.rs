use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use proptest::prelude::*;

use super::*;
use crate::envelope::{Algorithm, signed_bytes};
use crate::sshsig_testing::{SshKey, TOUCHED, VERIFIED};

const MESSAGE: &[u8] = b"a signed message";

// Made with OpenSSH 9.2: `ssh-keygen -t ed25519`, then `printf 'a signed message' | ssh-keygen -Y sign -n holdfast`, with
// `-O hashalg=sha256`, and with `-n file`. tests/tests/ssh_keys.rs asks the OpenSSH of the machine.
const OPENSSH_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEGWTIXTawPu5r9wFKlU9jeyilXe5hX7l9S8LDqmK8ZW ann@laptop";
const OPENSSH_SHA512: &str = "U1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAgQZZMhdNrA+7mv3AUqVT2N7KKVd\
    7mFfuX1LwsOqYrxlYAAAAIaG9sZGZhc3QAAAAAAAAABnNoYTUxMgAAAFMAAAALc3NoLWVk\
    MjU1MTkAAABADcNVhtQKPUnap+X+jbQPA4yYK+KsGskrNRrQnh4qx2QwPTJ//Ibvpzu0o9\
    +XyIz9fYL0b2EloYDUBSIGmltCAg==";
const OPENSSH_SHA256: &str = "U1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAgQZZMhdNrA+7mv3AUqVT2N7KKVd\
    7mFfuX1LwsOqYrxlYAAAAIaG9sZGZhc3QAAAAAAAAABnNoYTI1NgAAAFMAAAALc3NoLWVk\
    MjU1MTkAAABAs+Tb4TNtTFSKbOZ/gOS8FHIfhKF13sNWIumJzYqN1F9KbyiabE8XYvnSCq\
    QqkPvJhrGdH/9ZGRf5gtpuw7a5DQ==";
const OPENSSH_FILE: &str = "U1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAgQZZMhdNrA+7mv3AUqVT2N7KKVd\
    7mFfuX1LwsOqYrxlYAAAAEZmlsZQAAAAAAAAAGc2hhNTEyAAAAUwAAAAtzc2gtZWQyNTUx\
    OQAAAEAAvuDCGVVQ9/uiyuSChKug0bayW3ouD/J4vvWBgrF2XP9KN41goe18szUCS/zjaF\
    iktogKRJTHGcqh2hsObPEO";

fn good(key: &SshKey, message: &[u8], signature: &[u8]) -> bool {
    let public = key.public();
    public
        .key_type()
        .algorithm()
        .verify(public.blob(), message, signature)
}

fn both() -> [SshKey; 2] {
    [SshKey::software(), SshKey::token()]
}

/// An SSHSIG whose fields are what the test says.
struct Fields<'a> {
    magic: &'a [u8],
    version: u32,
    public: &'a [u8],
    namespace: &'a [u8],
    reserved: &'a [u8],
    hash: &'a [u8],
    inner: &'a [u8],
}

impl Fields<'_> {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.magic.to_vec();
        bytes.extend_from_slice(&self.version.to_be_bytes());
        for field in [self.public, self.namespace, self.reserved, self.hash, self.inner] {
            put_string(&mut bytes, field);
        }
        bytes
    }
}

#[test]
fn what_openssh_signed_in_our_namespace_is_good() {
    let key: SshPublicKey = OPENSSH_KEY.parse().unwrap();
    let check = |signature: &str| {
        let signature = BASE64.decode(signature).unwrap();
        Algorithm::SshsigEd25519.verify(key.blob(), MESSAGE, &signature)
    };
    assert!(check(OPENSSH_SHA512) && check(OPENSSH_SHA256));
    assert!(!check(OPENSSH_FILE), "signed as a file");
}

#[test]
fn our_own_assembly_is_what_openssh_writes() {
    let key: SshPublicKey = OPENSSH_KEY.parse().unwrap();
    let theirs = BASE64.decode(OPENSSH_SHA512).unwrap();
    let inner = &theirs[theirs.len() - 83..];
    assert_eq!(assemble(&key, inner), theirs);
}

#[test]
fn a_signature_is_good_for_its_key_and_message_only() {
    for key in both() {
        let signature = key.sshsig(MESSAGE);
        assert!(good(&key, MESSAGE, &signature));
        assert!(!good(&key, b"another message", &signature));
        for other in both() {
            assert!(!good(&other, MESSAGE, &signature));
        }
    }
}

#[test]
fn a_signature_under_one_kind_is_none_under_another() {
    for key in both() {
        let signature = key.sshsig(&signed_bytes("release", b"{}"));
        assert!(good(&key, &signed_bytes("release", b"{}"), &signature));
        assert!(!good(&key, &signed_bytes("authority", b"{}"), &signature));
    }
}

#[test]
fn a_software_keys_signature_is_none_of_a_tokens_key_nor_the_other_way_round() {
    for key in both() {
        let signature = key.sshsig(MESSAGE);
        for algorithm in Algorithm::ALL {
            let verified = algorithm.verify(key.public().blob(), MESSAGE, &signature);
            assert_eq!(
                verified,
                algorithm == key.public().key_type().algorithm(),
                "{algorithm:?}"
            );
        }
    }
}

/// It would need no touch.
#[test]
fn a_software_keys_signature_cannot_be_renamed_to_a_tokens() {
    let key = SshKey::software();
    let inner = key.answer(&signed_data(MESSAGE), TOUCHED);
    let mut renamed = Vec::new();
    put_string(&mut renamed, SshKeyType::SkEd25519.as_str().as_bytes());
    renamed.extend_from_slice(&inner[4 + "ssh-ed25519".len()..]);
    let signature = assemble(key.public(), &renamed);
    assert!(!Algorithm::SshsigSkEd25519.verify(key.public().blob(), MESSAGE, &signature));
}

#[test]
fn a_token_that_was_not_touched_signs_for_nobody() {
    let key = SshKey::token();
    let by = |flags| assemble(key.public(), &key.answer(&signed_data(MESSAGE), flags));
    for flags in [0, VERIFIED, 0xfe] {
        assert!(!good(&key, MESSAGE, &by(flags)), "flags {flags:#04x}");
    }
    for flags in [TOUCHED, TOUCHED | VERIFIED] {
        assert!(good(&key, MESSAGE, &by(flags)), "flags {flags:#04x}");
    }
}

#[test]
fn the_flag_of_a_touch_cannot_be_added_afterwards() {
    let key = SshKey::token();
    let mut inner = key.answer(&signed_data(MESSAGE), 0);
    let flags = inner.len() - 5;
    inner[flags] |= TOUCHED;
    assert!(!good(&key, MESSAGE, &assemble(key.public(), &inner)));
}

#[test]
fn another_namespace_is_refused_in_what_was_signed_and_in_what_is_said() {
    for key in both() {
        for signed_as in [NAMESPACE, "file", ""] {
            let mut data = MAGIC.to_vec();
            put_string(&mut data, signed_as.as_bytes());
            put_string(&mut data, b"");
            put_string(&mut data, b"sha512");
            put_string(&mut data, digest(&SHA512, MESSAGE).as_ref());
            let inner = key.answer(&data, TOUCHED);
            for said in [NAMESPACE, "file", ""] {
                let fields = fields(&key, &inner);
                let signature = Fields {
                    namespace: said.as_bytes(),
                    ..fields
                };
                let ours = signed_as == NAMESPACE && said == NAMESPACE;
                let verified = good(&key, MESSAGE, &signature.to_bytes());
                assert_eq!(verified, ours, "signed as '{signed_as}', said '{said}'");
            }
        }
    }
}

fn fields<'a>(key: &'a SshKey, inner: &'a [u8]) -> Fields<'a> {
    Fields {
        magic: MAGIC,
        version: VERSION,
        public: key.public().blob(),
        namespace: NAMESPACE.as_bytes(),
        reserved: b"",
        hash: b"sha512",
        inner,
    }
}

#[test]
fn every_other_shape_is_refused() {
    for key in both() {
        let other = SshKey::software();
        let inner = key.answer(&signed_data(MESSAGE), TOUCHED);
        let longer = [&inner[..], &[0]].concat();
        let all = || fields(&key, &inner);
        assert!(good(&key, MESSAGE, &all().to_bytes()), "the shape that is taken");
        let refused = [
            (
                "magic",
                Fields {
                    magic: b"SSHSIQ",
                    ..all()
                },
            ),
            ("version", Fields { version: 2, ..all() }),
            (
                "key",
                Fields {
                    public: other.public().blob(),
                    ..all()
                },
            ),
            ("no key", Fields { public: b"", ..all() }),
            (
                "reserved",
                Fields {
                    reserved: b"x",
                    ..all()
                },
            ),
            (
                "hash",
                Fields {
                    hash: b"sha256",
                    ..all()
                },
            ),
            (
                "unknown hash",
                Fields {
                    hash: b"sha1",
                    ..all()
                },
            ),
            (
                "behind the inner end",
                Fields {
                    inner: &longer,
                    ..all()
                },
            ),
        ];
        for (what, fields) in refused {
            assert!(!good(&key, MESSAGE, &fields.to_bytes()), "{what}");
        }
        let behind = [all().to_bytes(), vec![0]].concat();
        assert!(!good(&key, MESSAGE, &behind), "behind the end");
    }
}

#[test]
fn the_inner_type_must_be_the_keys() {
    let key = SshKey::software();
    let inner = key.answer(&signed_data(MESSAGE), TOUCHED);
    let mut renamed = Vec::new();
    put_string(&mut renamed, b"ssh-ed25518");
    renamed.extend_from_slice(&inner[4 + "ssh-ed25519".len()..]);
    assert!(!good(&key, MESSAGE, &assemble(key.public(), &renamed)));
}

#[test]
fn a_signature_cut_off_at_any_byte_is_none() {
    for key in both() {
        let signature = key.sshsig(MESSAGE);
        for len in 0..signature.len() {
            assert!(!good(&key, MESSAGE, &signature[..len]), "{len} bytes");
        }
    }
}

#[test]
fn a_signature_with_any_bit_flipped_is_none() {
    for key in both() {
        let signature = key.sshsig(MESSAGE);
        for bit in 0..8 * signature.len() {
            let mut bad = signature.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!good(&key, MESSAGE, &bad), "bit {bit}");
        }
    }
}

proptest! {
    #[test]
    fn garbage_is_no_signature_and_never_panics(bytes: Vec<u8>, public: Vec<u8>) {
        for algorithm in Algorithm::ALL {
            prop_assert!(!algorithm.verify(&public, MESSAGE, &bytes));
        }
        for key in both() {
            prop_assert!(!good(&key, MESSAGE, &bytes));
            let begun = [&key.sshsig(MESSAGE)[..40], &bytes[..]].concat();
            prop_assert!(!good(&key, MESSAGE, &begun));
        }
    }
}
